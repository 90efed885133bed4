"""Heartbeats that come to SQLite together: one statement, each answered with its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from opscore_middleware.core.records import HeartbeatOutcome, ReportOutcome
from opscore_middleware.stores.sqlite import SqliteStore
from tests.stores.support import NOW, add, instances, said
from tests.stores.test_heartbeats import beat
from tests.support.holding import held
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.asyncio

ACCEPTED = ReportOutcome.ACCEPTED


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(str(tmp_path / "opscore.db"))
    await store.open()
    await add(store)
    yield store
    await store.close()


async def statements_of(store: SqliteStore) -> list[str]:
    """A list that grows with every statement that the writer runs."""
    statements: list[str] = []
    await store._open_writer().run(lambda c: c.set_trace_callback(statements.append))
    statements.clear()
    return statements


async def together(store: SqliteStore, *asked: object) -> list[object]:
    """Let callers share a commit, and return what each was told."""
    async with held(store):
        asking = [asyncio.ensure_future(caller) for caller in asked]  # type: ignore[call-overload]
        waiting = store._open_writer()._callers
        await wait_until_async(lambda: waiting.qsize() == len(asked), message="all to wait")
    return list(await asyncio.gather(*asking, return_exceptions=True))


async def test_those_that_share_a_commit_share_a_statement(store: SqliteStore) -> None:
    statements = await statements_of(store)
    count = 600  # more than one statement takes
    beats = (store.heartbeat(beat(instance_id=f"i{n}", in_flight=n)) for n in range(count))
    assert await together(store, *beats) == [HeartbeatOutcome(ACCEPTED, "UNKNOWN", 0)] * count
    assert sum("INSERT INTO instances" in statement for statement in statements) == 2
    kept = await instances(store)
    assert [kept[f"i{n}"].in_flight for n in range(count)] == list(range(count))


async def test_several_of_one_instance_say_one_thing_together(store: SqliteStore) -> None:
    beats = [
        beat(at=2, started_at=NOW - 5, in_flight=1),
        beat(at=9, in_flight=2),
        beat(at=4, started_at=NOW - 7, in_flight=3),
    ]
    told = await together(store, *map(store.heartbeat, beats))
    assert told == [HeartbeatOutcome(ACCEPTED, "UNKNOWN", 0)] * 3
    instance = (await instances(store))["i"]
    assert (instance.last_seen_at, instance.started_at) == (NOW + 9, NOW - 5)
    assert instance.in_flight == 3


async def test_strangers_beside_others_are_told_so(store: SqliteStore) -> None:
    await add(store, "gone")
    await store.deregister("gone", now=NOW)
    await store.apply_reports([said("active", sequence=4)])
    told = await together(
        store,
        *(store.heartbeat(beat(agent_id=agent)) for agent in ("nobody", "a", "gone")),
    )
    assert told == [
        HeartbeatOutcome(ReportOutcome.UNKNOWN_AGENT, "UNKNOWN", 0),
        HeartbeatOutcome(ACCEPTED, "active", 4),
        HeartbeatOutcome(ReportOutcome.DEREGISTERED, "UNKNOWN", 0),
    ]


async def test_one_that_cannot_be_written_fails_alone(store: SqliteStore) -> None:
    too_large = beat(instance_id="broken", in_flight=2**63)
    good, failed, other = await together(
        store,
        *map(store.heartbeat, (beat(), too_large, beat(instance_id="j"))),
    )
    assert good == other == HeartbeatOutcome(ACCEPTED, "UNKNOWN", 0)
    assert isinstance(failed, OverflowError)
    assert set(await instances(store)) == {"i", "j"}


async def test_a_report_and_a_heartbeat_in_one_commit_are_both_kept(store: SqliteStore) -> None:
    statements = await statements_of(store)
    await together(
        store,
        store.apply_reports([said("active", sequence=1)]),
        store.heartbeat(beat(at=3, in_flight=1)),
    )
    assert statements.count("COMMIT") == 2  # that of who held the writer, and theirs
    instance = (await instances(store))["i"]
    assert (instance.state, instance.sequence, instance.in_flight) == ("active", 1, 1)
