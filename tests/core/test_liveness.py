"""Who is lost and who is not, over a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.liveness import DEAF_AFTER, Watermark, advance, is_lost
from opscore_middleware.core.models import (
    Agent,
    Heartbeat,
    HistoryQuery,
    Liveness,
    Registration,
    StateReport,
)
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.records import InstanceRecord
from opscore_middleware.core.store import Store
from opscore_middleware.stores import open_store
from tests.support.clock import MovedClock

aio = pytest.mark.asyncio

INTERVAL = 10
HOUR = 3600


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    store = open_store("sqlite:///:memory:")
    await store.open()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def opscore(store: Store, clock: MovedClock) -> OpsCore:
    opscore = OpsCore(store, clock=clock)
    await opscore.register(Registration(agent_id="a", agent_name="a"))
    await opscore.tick()
    return opscore


async def listen(opscore: OpsCore, clock: MovedClock, seconds: int) -> None:
    """Let time pass while Ops-Core is there."""
    for _ in range(seconds):
        clock.move(1)
        await opscore.tick()


def beat(instance: str = "i", **fields: Any) -> Heartbeat:
    values = {"state": "idle", "sequence": 0, "interval_seconds": INTERVAL, **fields}
    return Heartbeat(instance_id=instance, **values)


async def report(
    opscore: OpsCore, clock: MovedClock, state: str, instance: str | None = "i", **fields: Any
) -> None:
    told = StateReport(
        agent_id="a",
        state=state,
        timestamp=from_micros(clock()),
        instance_id=instance,
        **fields,
    )
    await opscore.report("a", told)


def liveness(agent: Agent) -> dict[str | None, Liveness]:
    return {instance.instance_id: instance.liveness for instance in agent.instances}


# --- three intervals of silence ------------------------------------------------------------------


@aio
async def test_three_intervals_of_silence_lose_an_instance_and_not_a_second_less(
    opscore: OpsCore, clock: MovedClock
) -> None:
    await report(opscore, clock, "active", sequence=1)
    await opscore.heartbeat("a", beat(sequence=1))
    await listen(opscore, clock, 3 * INTERVAL)
    assert not (await opscore.agent("a")).lost
    await listen(opscore, clock, 1)
    agent = await opscore.agent("a")
    assert (agent.state, agent.lost) == ("active", True)
    assert liveness(agent) == {"i": Liveness.LOST}


@aio
@pytest.mark.parametrize("by", ["heartbeat", "report"])
async def test_a_lost_instance_that_speaks_again_is_alive(
    opscore: OpsCore, clock: MovedClock, by: str
) -> None:
    await report(opscore, clock, "idle", sequence=1)
    await opscore.heartbeat("a", beat())
    await listen(opscore, clock, HOUR)
    assert (await opscore.agent("a")).lost
    if by == "heartbeat":
        await opscore.heartbeat("a", beat())
    else:
        await report(opscore, clock, "active", sequence=2)
    agent = await opscore.agent("a")
    assert not agent.lost
    assert liveness(agent) == {"i": Liveness.ALIVE}


@aio
async def test_any_report_proves_life_even_a_repeat(opscore: OpsCore, clock: MovedClock) -> None:
    await opscore.heartbeat("a", beat())
    for _ in range(10):
        await report(opscore, clock, "idle", sequence=1)
        await listen(opscore, clock, 2 * INTERVAL)
    assert not (await opscore.agent("a")).lost


@aio
async def test_an_instance_is_judged_by_the_interval_it_said_last(
    opscore: OpsCore, clock: MovedClock
) -> None:
    await report(opscore, clock, "idle")
    await opscore.heartbeat("a", beat())
    await opscore.heartbeat("a", beat(interval_seconds=600))
    await listen(opscore, clock, 1800)
    assert not (await opscore.agent("a")).lost
    await listen(opscore, clock, 1)
    assert (await opscore.agent("a")).lost


# --- who is never lost ---------------------------------------------------------------------------


@aio
async def test_a_finished_instance_is_never_lost(opscore: OpsCore, clock: MovedClock) -> None:
    await opscore.heartbeat("a", beat())
    await report(opscore, clock, "finished", sequence=1)
    await listen(opscore, clock, HOUR)
    agent = await opscore.agent("a")
    assert (agent.state, agent.lost) == ("finished", False)
    assert liveness(agent) == {"i": Liveness.ALIVE}


@aio
@pytest.mark.parametrize("instance", ["i", None])
async def test_an_instance_that_never_sent_a_heartbeat_is_never_lost(
    opscore: OpsCore, clock: MovedClock, instance: str | None
) -> None:
    await report(opscore, clock, "active", instance=instance)
    await listen(opscore, clock, HOUR)
    agent = await opscore.agent("a")
    assert (agent.state, agent.lost) == ("active", False)


@aio
@pytest.mark.parametrize("outage", [1, 4, 5, 6, 30, HOUR, 30 * 24 * HOUR])
@pytest.mark.parametrize("interval", [0.5, 1, 2, INTERVAL, 60])
async def test_no_outage_of_ops_core_loses_an_agent_that_beats_on(
    opscore: OpsCore, store: Store, clock: MovedClock, outage: int, interval: float
) -> None:
    await report(opscore, clock, "idle")
    await opscore.heartbeat("a", beat(interval_seconds=interval))
    # The worst case: the outage begins just before the next heartbeat and ends just after one.
    await listen(opscore, clock, int(interval))
    clock.move(outage)
    again = OpsCore(store, clock=clock)
    assert not (await again.agent("a")).lost
    await again.tick()
    assert not (await again.agent("a")).lost
    await listen(again, clock, int(interval))
    assert not (await again.agent("a")).lost


@aio
async def test_who_comes_after_the_clock_was_put_back_is_there(
    opscore: OpsCore, clock: MovedClock
) -> None:
    clock.move(24 * HOUR)
    await opscore.tick()
    clock.move(-24 * HOUR)
    await listen(opscore, clock, 1)
    await report(opscore, clock, "idle", sequence=1)
    await opscore.heartbeat("a", beat(sequence=1))
    assert not (await opscore.agent("a")).lost
    await listen(opscore, clock, 3 * INTERVAL + 1)
    assert (await opscore.agent("a")).lost


@aio
async def test_after_an_outage_silence_counts_from_its_end(
    opscore: OpsCore, store: Store, clock: MovedClock
) -> None:
    await report(opscore, clock, "idle")
    await opscore.heartbeat("a", beat())
    clock.move(HOUR)
    again = OpsCore(store, clock=clock)
    await again.tick()
    await listen(again, clock, 3 * INTERVAL)
    assert not (await again.agent("a")).lost
    await listen(again, clock, 1)
    assert (await again.agent("a")).lost


@aio
async def test_without_anybody_listening_nobody_is_lost(store: Store, clock: MovedClock) -> None:
    opscore = OpsCore(store, clock=clock)
    await opscore.register(Registration(agent_id="a", agent_name="a"))
    await report(opscore, clock, "idle")
    await opscore.heartbeat("a", beat())
    clock.move(HOUR)
    assert not (await opscore.agent("a")).lost


# --- several instances ---------------------------------------------------------------------------


@aio
async def test_a_lost_instance_does_not_count_while_another_lives(
    opscore: OpsCore, clock: MovedClock
) -> None:
    for instance, state in (("gone", "active"), ("here", "idle")):
        await report(opscore, clock, state, instance)
        await opscore.heartbeat("a", beat(instance))
    assert (await opscore.agent("a")).state == "active"
    for _ in range(4):
        await listen(opscore, clock, INTERVAL)
        await opscore.heartbeat("a", beat("here"))
    agent = await opscore.agent("a")
    assert (agent.state, agent.lost) == ("idle", False)
    assert liveness(agent) == {"gone": Liveness.LOST, "here": Liveness.ALIVE}
    assert (await opscore.agent_state("a")).state == "idle"


@aio
async def test_with_all_lost_the_one_heard_last_stands(opscore: OpsCore, clock: MovedClock) -> None:
    for instance, state in (("first", "active"), ("second", "error")):
        await report(opscore, clock, state, instance)
        await opscore.heartbeat("a", beat(instance))
        clock.move(1)
    await listen(opscore, clock, HOUR)
    agent = await opscore.agent("a")
    assert (agent.state, agent.lost) == ("error", True)


# --- what a heartbeat says and does not do -------------------------------------------------------


@aio
async def test_on_a_fresh_database_a_heartbeat_learns_that_everything_is_missing(
    opscore: OpsCore,
) -> None:
    answer = await opscore.heartbeat("a", beat(state="active", sequence=41))
    assert (answer.state, answer.last_sequence) == ("UNKNOWN", 0)
    assert (answer.drain, answer.cancel, answer.interval_seconds) == (False, [], INTERVAL)


@aio
async def test_a_heartbeat_learns_what_is_known_and_changes_none_of_it(
    opscore: OpsCore, clock: MovedClock
) -> None:
    await report(opscore, clock, "active", sequence=7, details={"k": 1})
    before = await opscore.agent("a")
    clock.move(5)
    answer = await opscore.heartbeat("a", beat(state="idle", sequence=9, loop_lag_seconds=0.5))
    assert (answer.state, answer.last_sequence) == ("active", 7)
    after = await opscore.agent("a")
    assert (after.state, after.details, after.timestamp) == (
        before.state,
        before.details,
        before.timestamp,
    )
    (instance,) = after.instances
    assert (instance.sequence, instance.loop_lag_seconds) == (7, 0.5)
    assert instance.last_seen_at == from_micros(clock())
    assert len((await opscore.history("a", HistoryQuery())).items) == 1


@aio
async def test_an_instance_known_by_its_heartbeat_alone_leaves_the_agent_as_it_was(
    opscore: OpsCore, clock: MovedClock
) -> None:
    await report(opscore, clock, "idle", "old")
    await opscore.heartbeat("a", beat("new", state="active", sequence=3))
    agent = await opscore.agent("a")
    assert agent.state == "idle"
    assert [i.state for i in agent.instances] == ["idle", "UNKNOWN"]
    await report(opscore, clock, "active", "new", sequence=1)
    assert (await opscore.agent("a")).state == "active"


# --- the rules as functions ----------------------------------------------------------------------


def instance(seen_at: int, interval: int | None) -> InstanceRecord:
    return InstanceRecord("i", "idle", None, 0, None, None, seen_at, None, interval)


def test_a_gap_starts_the_listening_anew_and_a_clock_set_back_a_little_does_not() -> None:
    first = advance(None, 100)
    assert first == Watermark(100, 100)
    assert advance(first, 100 + DEAF_AFTER) == Watermark(100, 100 + DEAF_AFTER)
    assert advance(first, 101 + DEAF_AFTER) == Watermark(101 + DEAF_AFTER, 101 + DEAF_AFTER)
    assert advance(Watermark(100, 500), 50) == Watermark(100, 500)
    assert advance(Watermark(100, 500 + DEAF_AFTER), 499) == Watermark(499, 499)


PERIODS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20_000)), max_size=8)


@given(PERIODS, st.integers(100, 15_000), st.integers(0, 15_000))
def test_outages_of_any_lengths_lose_nobody(
    periods: Sequence[tuple[int, int]], interval: int, phase: int
) -> None:
    """Up for an interval and some seconds, then down, and again; times are milliseconds."""
    start, heard, mark = 0, 0, None
    for more, down in periods:
        end = start + interval + more * 1000
        for now in (*range(start, end, 1000), end):
            latest = now - (now - phase) % interval
            if latest >= start:  # nobody heard the ones before
                heard = latest
            mark = advance(mark, now * 1000)
            assert not is_lost(instance(heard * 1000, interval * 1000), mark)
        start = end + down
