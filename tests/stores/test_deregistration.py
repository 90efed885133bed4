"""Taking agents out on purpose, and doing what a repeated message says only once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from opscore_middleware.core.models import Registration
from opscore_middleware.core.records import Once, ReportOutcome
from opscore_middleware.core.store import Store
from opscore_middleware.stores import open_store
from tests.stores.support import NOW, add, instances, said, told

pytestmark = pytest.mark.asyncio


async def register(store: Store, *, once: Once | None, now: int = NOW, **fields: Any) -> bool:
    """Register agent `a`; tell whether that was done."""
    registration = Registration(agent_id="a", **{"agent_name": "a", **fields})
    return await store.register(registration, new_id="unused", now=now, once=once) is not None


async def names(store: Store) -> list[str]:
    listed = await store.list_agents(name=None, capability=None, after=None, limit=10)
    return [agent.agent_id for agent in listed]


async def test_an_agent_that_is_taken_out_keeps_its_past_and_cannot_report(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("active", sequence=1)])
    assert await store.deregister("a", now=NOW + 1) is ReportOutcome.ACCEPTED
    assert await store.deregister("a", now=NOW + 2) is ReportOutcome.DEREGISTERED
    assert await store.apply_reports([said("idle", sequence=2)]) == [ReportOutcome.DEREGISTERED]
    record = await store.get_agent("a")
    assert record is not None
    assert record.deregistered_at == NOW + 1
    assert (await instances(store))["i"].state == "active"
    assert [t.state for t in await told(store)] == ["active"]
    assert await names(store) == []


async def test_registering_brings_it_back_with_its_past(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("active", sequence=1)])
    await store.deregister("a", now=NOW + 1)
    await add(store, now=NOW + 2)
    record = await store.get_agent("a")
    assert record is not None
    assert (record.deregistered_at, record.registered_at) == (None, NOW)
    assert await store.apply_reports([said("idle", sequence=2)]) == [ReportOutcome.ACCEPTED]
    assert await names(store) == ["a"]


async def test_nobody_can_take_out_whom_nobody_knows(store: Store) -> None:
    assert await store.deregister("nobody", now=NOW) is ReportOutcome.UNKNOWN_AGENT


async def test_a_name_still_finds_the_agent_that_was_registered_last(store: Store) -> None:
    await add(store, "old", agent_name="n", now=NOW)
    await add(store, "new", agent_name="n", now=NOW + 1)
    await store.deregister("old", now=NOW + 2)
    found = await store.register(Registration(agent_name="n"), new_id="unused", now=NOW + 3)
    assert found is not None
    assert found.agent.agent_id == "new"


# --- once ----------------------------------------------------------------------------------------


async def test_a_message_that_comes_again_has_no_second_effect(store: Store) -> None:
    first, second = Once("r", NOW + 100), Once("d", NOW + 100)
    assert await register(store, once=first)
    assert await store.deregister("a", now=NOW, once=second) is ReportOutcome.ACCEPTED
    assert not await register(store, once=first, now=NOW + 50, version="2")
    record = await store.get_agent("a")
    assert record is not None
    assert (record.deregistered_at, record.version) == (NOW, "")
    assert await register(store, once=None)
    assert await store.deregister("a", now=NOW + 50, once=second) is None
    assert await names(store) == ["a"]


async def test_of_many_at_once_one_is_done(store: Store) -> None:
    once = Once("r", NOW + 100)
    done = await asyncio.gather(*(register(store, once=once) for _ in range(20)))
    assert sorted(done) == [False] * 19 + [True]


async def test_a_name_is_free_again_after_its_time_and_not_before(store: Store) -> None:
    assert await register(store, once=Once("r", NOW + 100))
    assert not await register(store, once=Once("r", NOW + 200), now=NOW + 100)
    assert await register(store, once=Once("r", NOW + 300), now=NOW + 101)
    assert not await register(store, once=Once("r", NOW + 300), now=NOW + 300)


async def test_a_repeat_is_known_after_a_restart(tmp_path: Path) -> None:
    for expected in (True, False):
        store = open_store(f"sqlite:///{tmp_path / 'opscore.db'}")
        await store.open()
        assert await register(store, once=Once("r", NOW + 100)) is expected
        await store.close()
