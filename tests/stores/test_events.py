"""Events as those who watch read them: all agents', in one order, and woken for new ones."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from opscore_middleware.core.store import Store, WakingStore
from opscore_middleware.core.watch import EventRecord
from tests.stores.support import NOW, add, said
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.asyncio

LARGE = 1_000_000


async def read(store: Store, after: int = 0, limit: int = 100, size: int = LARGE) -> list[int]:
    """The ids of a page of events."""
    found = await store.events(after=after, limit=limit, max_size=size)
    return [event.event_id for event in found]


def waking(store: Store) -> WakingStore:
    assert isinstance(store, WakingStore)
    return store


async def test_an_event_is_told_with_its_agent_as_it_is_now(store: Store) -> None:
    await add(store, "a", capabilities=["write"])
    await store.apply_reports([said("active", at=5, sequence=3, details='{"k":1}', errors=2)])
    await add(store, "a", agent_name="renamed", capabilities=["write", "read"])
    (event,) = await store.events(after=0, limit=10, max_size=LARGE)
    assert event == EventRecord(
        event_id=event.event_id,
        agent_id="a",
        agent_name="renamed",
        capabilities=("write", "read"),
        state="active",
        details='{"k":1}',
        timestamp=NOW + 5,
        received_at=NOW + 5,
        instance_id="i",
        sequence=3,
        coalesced=0,
        errors=2,
    )


async def test_events_of_all_agents_come_in_one_order(store: Store) -> None:
    await add(store, "a")
    await add(store, "b")
    await store.apply_reports([said(agent_id="ab"[n % 2], sequence=n + 1) for n in range(6)])
    found = await store.events(after=0, limit=10, max_size=LARGE)
    assert [event.agent_id for event in found] == ["a", "b", "a", "b", "a", "b"]
    ids = [event.event_id for event in found]
    assert ids == sorted(set(ids))
    assert await read(store, after=ids[1], limit=3) == ids[2:5]
    assert await read(store, after=ids[-1]) == []


async def test_events_of_one_agent_are_those_of_its_history(store: Store) -> None:
    await add(store, "a")
    await add(store, "b")
    await store.apply_reports([said(agent_id="ab"[n % 2], sequence=n + 1) for n in range(6)])
    found = await store.events(after=0, limit=2, max_size=LARGE, agent_id="b")
    assert [(event.agent_id, event.sequence) for event in found] == [("b", 2), ("b", 4)]
    assert await store.events(after=0, limit=2, max_size=LARGE, agent_id="nobody") == []


async def test_a_page_ends_with_the_event_that_makes_it_large_enough(store: Store) -> None:
    await add(store)
    details = json.dumps({"text": "x" * 100})
    await store.apply_reports([said(sequence=n + 1, details=details) for n in range(4)])
    ids = await read(store)
    assert await read(store, size=2 * len(details)) == ids[:2]
    assert await read(store, size=2 * len(details) + 1) == ids[:3]
    assert await read(store, size=1) == ids[:1]


async def test_the_first_and_the_last_id_are_known(store: Store) -> None:
    assert (await store.first_event_id(), await store.last_event_id()) == (1, 0)
    await add(store)
    await store.apply_reports([said(sequence=1), said(sequence=1), said(sequence=2)])
    ids = await read(store)
    assert (await store.first_event_id(), await store.last_event_id()) == (ids[0], ids[-1])


async def test_all_who_wait_are_woken_by_a_report(store: Store) -> None:
    await add(store)
    await store.apply_reports([said(sequence=1)])
    # What came before the first wait counts.
    heard = await waking(store).wait_for_events(TIMEOUT, after=0)
    began = time.monotonic()
    waiting = [
        asyncio.create_task(waking(store).wait_for_events(TIMEOUT, after=heard)) for _ in range(3)
    ]
    await asyncio.gather(*waiting, store.apply_reports([said(sequence=2)]))
    assert time.monotonic() - began < TIMEOUT / 2
    assert len(await read(store)) == 2


async def test_a_report_between_a_look_and_the_next_wait_is_not_slept_through(
    store: Store,
) -> None:
    await add(store)
    began = time.monotonic()
    one = other = 0
    for sequence in range(1, 4):
        await store.apply_reports([said(sequence=sequence)])
        one = await waking(store).wait_for_events(TIMEOUT, after=one)
        other = await waking(store).wait_for_events(TIMEOUT, after=other)
    assert time.monotonic() - began < TIMEOUT / 2


async def test_a_wait_for_nothing_ends(store: Store) -> None:
    await add(store)
    await waking(store).wait_for_events(0.01, after=0)
    assert await read(store) == []
