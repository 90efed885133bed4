"""Who changes many rows in PostgreSQL locks them in one order: no two wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple

import asyncpg
import pytest
import pytest_asyncio

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.store import Store
from opscore_middleware.stores import open_store
from tests.stores.support import NOW, add, said
from tests.stores.test_overdue import beat
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.asyncio

HOUR: Final = 3600
LATER: Final = Watermark(NOW - 10 * SECOND, NOW + 3 * HOUR * SECOND)


class Table(NamedTuple):
    """Its rows as a test needs them; the first is the one to be locked first."""

    name: str
    first: str
    moves: str


AGENTS: Final = Table(
    "opscore.agents",
    "agent_key = (SELECT min(agent_key) FROM opscore.agents)",
    "version = version",
)
INSTANCES: Final = Table(
    "opscore.instances",
    "instance_key = (SELECT min(instance_key) FROM opscore.instances)",
    "started_at = started_at",
)


@pytest_asyncio.fixture
async def store(postgres: str) -> AsyncIterator[Store]:
    store = open_store(postgres)
    await store.open()
    for agent_id in "abcdefgh":
        await add(store, agent_id, deregister_after=HOUR)
        await store.apply_reports([said("finished", agent_id=agent_id, instance_id="old")])
        await beat(store, agent_id)
        await store.apply_reports([said(agent_id=agent_id, at=1)])
    yield store
    await store.close()


@pytest_asyncio.fixture
async def asides(postgres: str) -> AsyncIterator[list[asyncpg.Connection[Any]]]:
    """Connections beside the store's."""
    connections = [await asyncpg.connect(postgres) for _ in range(2)]
    yield connections
    for connection in connections:
        await connection.close()


async def take_out(store: Store) -> int:
    return len(await store.deregister_overdue(mark=LATER, now=LATER.seen_at))


async def forget(store: Store) -> int:
    before = NOW + HOUR * SECOND
    return await store.forget_instances(mark=LATER, before=before, now=LATER.seen_at)


@pytest.mark.parametrize(
    ("table", "change", "changed"),
    [(AGENTS, take_out, 8), (INSTANCES, forget, 8)],
    ids=["overdue agents", "old instances"],
)
async def test_who_waits_for_the_first_row_holds_no_other(
    store: Store,
    asides: list[asyncpg.Connection[Any]],
    table: Table,
    change: Callable[[Store], Awaitable[int]],
    changed: int,
) -> None:
    holder, other = asides
    # A row that was changed lies behind the others, where a table is read from end to end.
    moves = f"UPDATE {table.name} SET {table.moves} WHERE {table.first}"  # noqa: S608 - constants
    await holder.execute(moves)
    async with holder.transaction():
        await holder.execute(f"SELECT FROM {table.name} WHERE {table.first} FOR UPDATE")
        changing = asyncio.ensure_future(change(store))
        await wait_until_async(
            lambda: other.fetchval(
                "SELECT count(*) > 0 FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ),
            message="the change to wait for the row",
        )
        rows = await other.fetch(f"SELECT FROM {table.name}")
        free = await other.fetch(f"SELECT FROM {table.name} FOR UPDATE SKIP LOCKED")
        assert len(free) == len(rows) - 1
    assert await changing == changed
