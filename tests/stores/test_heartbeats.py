"""Signs of life: what a heartbeat writes, what it leaves alone, and since when anybody listens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import DEAF_AFTER, Watermark
from opscore_middleware.core.records import HeartbeatOutcome, ReportOutcome, StoredHeartbeat
from opscore_middleware.core.store import Store
from tests.stores.support import NOW, add, instances, said, told

pytestmark = pytest.mark.asyncio

ACCEPTED = ReportOutcome.ACCEPTED


def beat(*, at: int = 0, **fields: Any) -> StoredHeartbeat:
    """A heartbeat of agent `a`'s instance `i`, received `at` microseconds after NOW."""
    values: dict[str, Any] = {
        "agent_id": "a",
        "instance_id": "i",
        "received_at": NOW + at,
        "started_at": None,
        "interval": 10 * SECOND,
        "loop_lag": None,
        "in_flight": None,
        **fields,
    }
    return StoredHeartbeat(**values)


async def test_a_heartbeat_makes_its_instance_known_and_nothing_more(store: Store) -> None:
    await add(store)
    known = await store.heartbeat(beat(started_at=NOW - 5, loop_lag=0.25, in_flight=2))
    assert known == HeartbeatOutcome(ACCEPTED, "UNKNOWN", 0)
    instance = (await instances(store))["i"]
    assert (instance.state, instance.sequence, instance.started_at) == ("UNKNOWN", None, NOW - 5)
    assert (instance.interval, instance.loop_lag, instance.in_flight) == (10 * SECOND, 0.25, 2)
    assert instance.last_seen_at == NOW
    assert await told(store) == []


async def test_any_first_report_follows_a_heartbeat(store: Store) -> None:
    await add(store)
    await store.heartbeat(beat())
    await store.apply_reports([said("active", at=-(10**12))])
    assert (await instances(store))["i"].state == "active"


async def test_a_heartbeat_changes_no_state_no_sequence_and_no_history(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("active", sequence=3, details="{}", started_at=NOW - 1)])
    before, lines = (await instances(store))["i"], await told(store)
    known = await store.heartbeat(beat(at=7, started_at=NOW - 9, in_flight=1))
    assert known == HeartbeatOutcome(ACCEPTED, "active", 3)
    assert (await instances(store))["i"] == before._replace(
        last_seen_at=NOW + 7, interval=10 * SECOND, in_flight=1
    )
    assert await told(store) == lines


async def test_what_it_says_of_itself_is_the_last_word(store: Store) -> None:
    await add(store)
    await store.heartbeat(beat(loop_lag=1.5, in_flight=3))
    await store.heartbeat(beat(at=1, interval=SECOND))
    instance = (await instances(store))["i"]
    assert (instance.interval, instance.loop_lag, instance.in_flight) == (SECOND, None, None)


async def test_a_clock_set_back_takes_no_sign_of_life_back(store: Store) -> None:
    await add(store)
    await store.heartbeat(beat(at=100))
    await store.heartbeat(beat(at=50))
    assert (await instances(store))["i"].last_seen_at == NOW + 100


async def test_a_report_keeps_what_the_heartbeat_said(store: Store) -> None:
    await add(store)
    await store.heartbeat(beat(loop_lag=0.5))
    await store.apply_reports([said("idle", at=1, sequence=1)])
    assert (await instances(store))["i"].interval == 10 * SECOND
    assert await store.heartbeat(beat()) == HeartbeatOutcome(ACCEPTED, "idle", 1)


async def test_strangers_and_those_taken_out_leave_nothing(store: Store) -> None:
    await add(store, "gone")
    await store.deregister("gone", now=NOW)
    for agent_id, outcome in (
        ("nobody", ReportOutcome.UNKNOWN_AGENT),
        ("gone", ReportOutcome.DEREGISTERED),
    ):
        assert (await store.heartbeat(beat(agent_id=agent_id))).outcome is outcome
    assert await store.get_agent("nobody") is None
    assert await instances(store, "gone") == {}


async def test_heartbeats_of_many_are_each_answered_with_their_own(store: Store) -> None:
    await add(store)
    await store.apply_reports(
        [said("idle", instance_id=f"i{n}", sequence=n + 1) for n in range(100)]
    )
    known = await asyncio.gather(
        *(store.heartbeat(beat(instance_id=f"i{n}", in_flight=n)) for n in range(100))
    )
    assert [k.last_sequence for k in known] == list(range(1, 101))
    assert {i: r.in_flight for i, r in (await instances(store)).items()} == {
        f"i{n}": n for n in range(100)
    }


async def test_the_watermark_moves_on_and_starts_anew_after_a_gap(store: Store) -> None:
    assert await store.watermark(now=NOW) == Watermark(NOW, NOW)
    assert await store.watermark(now=NOW + SECOND) == Watermark(NOW, NOW + SECOND)
    later = NOW + SECOND + DEAF_AFTER + 1
    assert await store.watermark(now=later) == Watermark(later, later)
    assert await store.watermark(now=later - DEAF_AFTER) == Watermark(later, later)
    assert await store.watermark(now=NOW) == Watermark(NOW, NOW)
