"""The garbage collector ends abandoned requests in the middle of whatever allocates or calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from opscore_middleware.agent.bell import Bell
from opscore_middleware.agent.outbox import Entry, Instance, Outbox
from opscore_middleware.agent.tracker import Tracker
from opscore_middleware.core.states import AgentState
from tests.agent.interruption import AFTER, Interruption

ENDED: Final = {"opscore_task_id": "a", "opscore_task_state": "completed"}
WHY: Final = {"error": {"type": "ValueError", "message": "no ink"}}


def read_that_lasts(tracker: Tracker) -> None:
    read = tracker.begin_read()
    read.since -= 10
    tracker.tick()
    tracker.end_read(read)


Step = Callable[[Tracker, Outbox], list[Entry] | None]
STEPS: Final[dict[str, Step]] = {
    "work": lambda tracker, _: tracker.end(tracker.begin()),
    "work on a task": lambda tracker, _: tracker.end(
        tracker.begin({"opscore_task_id": "b"}), ENDED
    ),
    "failure": lambda tracker, _: tracker.fail(tracker.begin(), WHY),
    "take": lambda _, outbox: outbox.take(),
    "restate": lambda tracker, _: tracker.restate(),
    "mention": lambda tracker, _: tracker.mention({"opscore_task_id": "b"}),
    "drain": lambda tracker, _: tracker.drain(),
    "read": lambda tracker, _: read_that_lasts(tracker),
}
MEANWHILE: Final[dict[str, Callable[[Tracker, Instance], None]]] = {
    "end": lambda tracker, unit: tracker.end(unit),
    "end of a task": lambda tracker, unit: tracker.end(unit, ENDED),
    "failure": lambda tracker, unit: tracker.fail(unit, WHY),
}


@pytest.mark.parametrize("before", [0, 1, 3, 6])
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("step", STEPS)
def test_wherever_an_abandoned_request_is_ended_the_order_the_count_and_the_state_are_right(
    step: str, meanwhile: str, before: int
) -> None:
    for at in itertools.count():
        outbox = Outbox(4)
        tracker = Tracker(outbox, Bell(lambda: None))
        tracker.ready()
        for _ in range(before):
            tracker.end(tracker.begin())
        unit = tracker.begin()
        with Interruption(
            lambda t=tracker, u=unit: MEANWHILE[meanwhile](t, u), at, AFTER
        ) as collector:  # type: ignore[misc]
            taken = STEPS[step](tracker, outbox) or []
        if not collector.done:
            assert at
            return
        taken += outbox.take()
        view = tracker.view()
        assert view.in_flight == 0
        assert view.state is not AgentState.ACTIVE
        assert [entry.sequence for entry in taken] == sorted({entry.sequence for entry in taken})
        assert len(taken) + sum(entry.coalesced for entry in taken) == view.sequence
        assert outbox.folded == sum(entry.coalesced for entry in taken)
        assert (taken[-1].sequence, taken[-1].state) == (view.sequence, view.state)


@pytest.mark.parametrize("before", [0, 1, 6])
@pytest.mark.parametrize("beside", [0, 1])
def test_a_read_that_is_abandoned_just_as_it_comes_to_count_is_not_left_open(
    beside: int, before: int
) -> None:
    for at in itertools.count():
        outbox = Outbox(4)
        tracker = Tracker(outbox, Bell(lambda: None), read_grace=0)
        tracker.ready()
        for _ in range(before):
            tracker.end(tracker.begin())
        units = [tracker.begin() for _ in range(beside)]
        read = tracker.begin_read()
        with Interruption(partial(tracker.end_read, read), at, AFTER) as collector:
            tracker.tick()
        if not collector.done:
            assert at
            return
        assert tracker.in_flight == beside
        assert (tracker.state is AgentState.ACTIVE) == bool(beside)
        for unit in units:
            tracker.end(unit)
        taken, view = outbox.take(), tracker.view()
        assert (view.in_flight, view.state) == (0, AgentState.IDLE)
        assert len(taken) + sum(entry.coalesced for entry in taken) == view.sequence
