"""A rush: what is no longer told one by one is counted all the same, and what stands is right."""

from __future__ import annotations

import itertools
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.agent.bell import Bell
from opscore_middleware.agent.outbox import Entry, Instance, Outbox
from opscore_middleware.agent.tracker import Tracker
from opscore_middleware.core.states import AgentState

WHY = {"error": {"type": "ValueError", "message": "no ink"}}
BEGIN, END, FAIL, SAY, TAKE = range(5)


def tracked(limit: int) -> tuple[Tracker, Outbox]:
    """Return a tracker whose clock counts its transitions, and where it puts them."""
    clock = itertools.count(1.0)
    outbox = Outbox(limit)
    tracker = Tracker(outbox, Bell(lambda: None), clock=lambda: next(clock))
    tracker.lifespan_begins()
    tracker.ready()
    return tracker, outbox


def work(tracker: Tracker, units: int) -> None:
    for _ in range(units):
        tracker.end(tracker.begin())


@given(st.lists(st.sampled_from([BEGIN, END, FAIL, SAY, TAKE]), max_size=300), st.integers(2, 40))
def test_every_transition_of_a_rush_is_told_or_counted(events: list[int], limit: int) -> None:
    tracker, outbox = tracked(limit)
    units: list[Instance] = []
    taken: list[Entry] = []
    for event in [*events, TAKE]:
        if event == BEGIN:
            units.append(tracker.begin())
        elif event == END and units:
            tracker.end(units.pop())
        elif event == FAIL and units:
            tracker.fail(units.pop(), WHY)
        elif event == SAY:
            tracker.mention({"progress": 1})
        elif event == TAKE:
            taken += outbox.take()
            view = tracker.view()
            assert (taken[-1].sequence, taken[-1].state) == (view.sequence, view.state)
    assert len(outbox) == 0
    assert [entry.sequence for entry in taken] == sorted({entry.sequence for entry in taken})
    assert len(taken) + sum(entry.coalesced for entry in taken) == tracker.view().sequence
    assert outbox.folded == sum(entry.coalesced for entry in taken)


def test_the_last_entry_of_a_rush_says_when_the_state_was_entered() -> None:
    tracker, outbox = tracked(4)
    work(tracker, 1000)
    tracker.begin()
    last = outbox.take()[-1]
    assert last.state is AgentState.ACTIVE
    # Its clock began with the instance.
    assert (last.sequence, last.at) == (2003, 2004.0)


def test_a_rush_that_goes_on_is_told_with_few_entries_and_a_quiet_time_with_all() -> None:
    tracker, outbox = tracked(256)
    work(tracker, 10_000)
    assert len(outbox.take()) == 256
    work(tracker, 10_000)
    assert len(outbox.take()) == 16
    work(tracker, 100)
    assert len(outbox.take()) == 16
    work(tracker, 100)
    assert len(outbox.take()) == 200


def test_in_a_rush_a_listener_in_the_process_hears_of_every_transition() -> None:
    tracker, outbox = tracked(4)
    outbox.heard = deque()
    work(tracker, 100)
    assert [entry[1] for entry in outbox.heard] == list(range(3, 203))
    assert len(outbox.take()) == 4
