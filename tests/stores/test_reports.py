"""Which report becomes the current state, and which is history alone."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.records import InstanceRecord, ReportOutcome
from opscore_middleware.core.store import Store
from tests.stores.support import NOW, add, instances, said, told

pytestmark = pytest.mark.asyncio

ACCEPTED, DUPLICATE = ReportOutcome.ACCEPTED, ReportOutcome.DUPLICATE
UNKNOWN = ReportOutcome.UNKNOWN_AGENT


async def test_everything_that_a_report_says_is_kept(store: Store) -> None:
    await add(store)
    report = said(
        "error",
        sequence=7,
        details='{"é":[1,null]}',
        timestamp=NOW - 5,
        effective_at=NOW - 4,
        received_at=NOW,
        started_at=NOW - 99,
        coalesced=3,
        errors=2,
    )
    assert await store.apply_reports([report]) == [ACCEPTED]
    (instance,) = (await instances(store)).values()
    assert instance == InstanceRecord(
        instance_id="i",
        state="error",
        details='{"é":[1,null]}',
        timestamp=NOW - 5,
        sequence=7,
        started_at=NOW - 99,
        last_seen_at=NOW,
        contact_endpoint=None,
    )
    (transition,) = await told(store)
    assert transition.model_dump() == {
        "event_id": transition.event_id,
        "agent_id": "a",
        "state": "error",
        "details": {"é": [1, None]},
        "timestamp": from_micros(NOW - 5),
        "received_at": from_micros(NOW),
        "instance_id": "i",
        "sequence": 7,
        "coalesced": 3,
        "errors": 2,
    }


async def test_no_reports_have_no_outcome(store: Store) -> None:
    assert list(await store.apply_reports([])) == []


async def test_a_repeat_changes_nothing_but_proves_life(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("active", sequence=1)])
    repeat = said("error", at=9, sequence=1, details="{}")
    assert await store.apply_reports([repeat]) == [DUPLICATE]
    instance = (await instances(store))["i"]
    assert (instance.state, instance.details, instance.timestamp) == ("active", None, NOW)
    assert instance.last_seen_at == NOW + 9
    assert [t.state for t in await told(store)] == ["active"]


async def test_a_late_report_is_history_and_never_current(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("idle", sequence=3)])
    assert await store.apply_reports([said("active", at=9, sequence=2)]) == [ACCEPTED]
    assert await store.apply_reports([said("active", at=9, sequence=2)]) == [DUPLICATE]
    instance = (await instances(store))["i"]
    assert (instance.state, instance.sequence, instance.last_seen_at) == ("idle", 3, NOW + 9)
    assert [t.sequence for t in await told(store)] == [3, 2]


async def test_two_reports_of_one_commit_may_come_in_reversed_order(store: Store) -> None:
    await add(store)
    outcomes = await store.apply_reports(
        [said("idle", sequence=2), said("active", sequence=1), said("idle", sequence=2)]
    )
    assert outcomes == [ACCEPTED, ACCEPTED, DUPLICATE]
    assert (await instances(store))["i"].state == "idle"
    assert [t.sequence for t in await told(store)] == [2, 1]


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
async def test_whatever_the_order_the_highest_sequence_is_current(
    store: Store, order: tuple[int, ...]
) -> None:
    await add(store)
    states = {1: "initializing", 2: "idle", 3: "active"}
    for sequence in order:
        await store.apply_reports([said(states[sequence], sequence=sequence)])
    assert (await instances(store))["i"].state == "active"
    assert [t.sequence for t in await told(store)] == list(order)


async def test_a_clock_that_steps_back_does_not_disturb_sequences(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("active", sequence=1)])
    await store.apply_reports([said("idle", at=-3_600_000_000, sequence=2)])
    instance = (await instances(store))["i"]
    assert (instance.state, instance.last_seen_at) == ("idle", NOW)


@pytest.mark.parametrize("later", [{"sequence": 9}, {"sequence": None, "at": 9}, {"sequence": 2}])
async def test_nothing_replaces_finished_for_an_instance(
    store: Store, later: dict[str, int]
) -> None:
    await add(store)
    await store.apply_reports([said("finished", sequence=5)])
    assert await store.apply_reports([said("idle", **later)]) == [ACCEPTED]
    instance = (await instances(store))["i"]
    assert (instance.state, instance.sequence) == ("finished", 5)
    assert [t.state for t in await told(store)] == ["finished", "idle"]


async def test_a_repeat_of_what_came_after_finished_is_still_a_repeat(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("finished", sequence=5), said("idle", sequence=6)])
    assert await store.apply_reports([said("idle", sequence=6)]) == [DUPLICATE]


async def test_reports_without_an_instance_are_ordered_by_time(store: Store) -> None:
    await add(store)
    for state, at in (("idle", 5), ("active", 9), ("error", 7)):
        await store.apply_reports([said(state, at=at, instance_id=None)])
    assert (await instances(store))[None].state == "active"
    await store.apply_reports([said("idle", at=9, instance_id=None)])
    assert (await instances(store))[None].state == "idle"
    assert [t.state for t in await told(store)] == ["idle", "active", "error", "idle"]


async def test_reports_without_an_instance_are_never_repeats(store: Store) -> None:
    await add(store)
    report = said("idle", instance_id=None)
    assert await store.apply_reports([report, report, report]) == [ACCEPTED] * 3
    assert len(await told(store)) == 3


async def test_an_agent_that_names_no_instance_may_come_back_after_finished(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("finished", instance_id=None)])
    await store.apply_reports([said("idle", at=1, instance_id=None)])
    assert (await instances(store))[None].state == "idle"


async def test_an_instance_without_sequences_is_ordered_by_time(store: Store) -> None:
    await add(store)
    for state, at in (("idle", 5), ("active", 9), ("error", 7)):
        await store.apply_reports([said(state, at=at)])
    assert (await instances(store))["i"].state == "active"


async def test_an_instance_may_mix_reports_with_and_without_a_sequence(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("idle", at=5, sequence=4)])
    await store.apply_reports([said("error", at=4)])
    assert (await instances(store))["i"].state == "idle"
    await store.apply_reports([said("error", at=6)])
    instance = (await instances(store))["i"]
    assert (instance.state, instance.sequence) == ("error", 4)
    await store.apply_reports([said("active", at=3, sequence=4), said("active", at=3, sequence=3)])
    assert (await instances(store))["i"].state == "error"
    await store.apply_reports([said("active", at=3, sequence=5)])
    assert (await instances(store))["i"].state == "active"


async def test_instances_and_agents_do_not_disturb_each_other(store: Store) -> None:
    await add(store, "a")
    await add(store, "b")
    await store.apply_reports(
        [
            said("active", sequence=1),
            said("idle", sequence=1, instance_id="j"),
            said("error", sequence=1, agent_id="b"),
            said("draining", instance_id=None),
        ]
    )
    assert {k: v.state for k, v in (await instances(store)).items()} == {
        "i": "active",
        "j": "idle",
        None: "draining",
    }
    assert [v.state for v in (await instances(store, "b")).values()] == ["error"]
    assert len(await told(store, "b")) == 1


async def test_the_time_of_start_is_taken_when_it_is_first_told(store: Store) -> None:
    await add(store)
    await store.apply_reports([said(sequence=1), said(sequence=3, started_at=NOW - 7)])
    assert (await instances(store))["i"].started_at == NOW - 7
    await store.apply_reports([said(sequence=2, started_at=NOW - 5), said(sequence=4)])
    assert (await instances(store))["i"].started_at == NOW - 7


async def test_strangers_are_told_apart_and_leave_no_trace(store: Store) -> None:
    await add(store)
    reports = [
        said(agent_id="x", sequence=1),
        said("active", sequence=1),
        said(sequence=1),
        said(agent_id="y", sequence=1),
    ]
    outcomes = await store.apply_reports(reports)
    assert outcomes == [UNKNOWN, ACCEPTED, DUPLICATE, UNKNOWN]
    assert await store.get_agent("x") is None
    assert await told(store, "x") == []
    assert (await instances(store))["i"].state == "active"


async def test_a_whole_batch_with_a_stranger_in_it_is_not_written(store: Store) -> None:
    await add(store)
    outcomes = await store.apply_reports(
        [said(sequence=1), said(agent_id="x"), said(sequence=2)], whole=True
    )
    assert outcomes == [UNKNOWN] * 3
    assert await instances(store) == {}
    assert await told(store) == []


async def test_a_refused_batch_does_not_take_its_neighbours_along(store: Store) -> None:
    await add(store)
    refused, written, single = await asyncio.gather(
        store.apply_reports([said(sequence=1), said(agent_id="x")], whole=True),
        store.apply_reports([said(sequence=2), said(sequence=3), said(sequence=3)], whole=True),
        store.apply_reports([said(agent_id="x")]),
    )
    assert refused == [UNKNOWN] * 2
    assert written == [ACCEPTED, ACCEPTED, DUPLICATE]
    assert single == [UNKNOWN]
    assert [t.sequence for t in await told(store)] == [2, 3]


async def test_a_thousand_reports_keep_their_order(store: Store) -> None:
    await add(store)
    batch = [said("active" if n % 2 else "idle", at=n, sequence=n) for n in range(1, 1001)]
    assert await store.apply_reports(batch, whole=True) == [ACCEPTED] * 1000
    history = await told(store)
    assert [t.sequence for t in history] == list(range(1, 1001))
    assert [t.event_id for t in history] == sorted({t.event_id for t in history})
    assert (await instances(store))["i"].sequence == 1000
    repeated = [*batch[500:], said("idle", sequence=1001)]
    assert await store.apply_reports(repeated, whole=True) == [DUPLICATE] * 500 + [ACCEPTED]


async def test_concurrent_repeats_are_accepted_once(store: Store) -> None:
    await add(store)
    outcomes = await asyncio.gather(*(store.apply_reports([said(sequence=1)]) for _ in range(50)))
    assert sorted(outcome for (outcome,) in outcomes) == [ACCEPTED] + [DUPLICATE] * 49
    assert len(await told(store)) == 1


@pytest.mark.parametrize("bad", [{"sequence": 2**64}, {"details": object()}, {"received_at": "x"}])
async def test_a_report_that_cannot_be_written_fails_alone(
    store: Store, bad: dict[str, object]
) -> None:
    await add(store)
    before, failed, after = await asyncio.gather(
        store.apply_reports([said("active", sequence=1)]),
        store.apply_reports([said(sequence=3), said(**{"sequence": 4, **bad})]),
        store.apply_reports([said("idle", sequence=2)]),
        return_exceptions=True,
    )
    assert (before, after) == ([ACCEPTED], [ACCEPTED])
    assert isinstance(failed, Exception)
    assert (await instances(store))["i"].state == "idle"
    assert [t.sequence for t in await told(store)] == [1, 2]
