"""The tracker: which work is in flight, and what that makes the agent's state."""

from __future__ import annotations

import threading

import pytest

from opscore_middleware.agent.bell import Bell
from opscore_middleware.agent.outbox import Entry, Outbox
from opscore_middleware.agent.tracker import Tracker
from opscore_middleware.core.states import AgentState
from tests.agent.support import Clock

FAILURE = {"error": {"type": "ValueError", "message": "no"}}


class Watched:
    """A tracker with a clock of its own, and everything it has put into its outbox."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.outbox = Outbox()
        self.bell = Bell(lambda: None)
        self.tracker = Tracker(
            self.outbox, self.bell, error_hold=5, read_grace=0.25, monotonic=self.clock
        )

    @property
    def entries(self) -> list[Entry]:
        return [Entry._make(entry) for entry in self.outbox.entries]

    @property
    def states(self) -> list[str]:
        return [entry.state.value for entry in self.entries]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_overlapping_units_make_one_active_and_one_idle(watched: Watched) -> None:
    tracker = watched.tracker
    first, second = tracker.begin(), tracker.begin()
    tracker.end(first)
    assert tracker.state is AgentState.ACTIVE
    tracker.end(second)
    assert watched.states == ["active", "idle"]


def test_a_failure_beside_other_work_is_told_and_the_agent_is_active_again(
    watched: Watched,
) -> None:
    tracker = watched.tracker
    failing, other = tracker.begin(), tracker.begin()
    tracker.fail(failing, FAILURE)
    assert watched.states == ["active", "error", "active"]
    assert watched.entries[1].details == FAILURE
    tracker.end(other)
    assert watched.states[-1] == "idle"


def test_an_error_stays_until_the_hold_has_passed(watched: Watched) -> None:
    tracker = watched.tracker
    tracker.fail(tracker.begin(), FAILURE)
    watched.clock.advance(4.9)
    assert tracker.tick() == pytest.approx(0.1)
    assert tracker.state is AgentState.ERROR
    watched.clock.advance(0.2)
    assert tracker.tick() is None
    assert watched.states == ["active", "error", "idle"]


def test_work_ends_the_hold_of_an_error(watched: Watched) -> None:
    tracker = watched.tracker
    tracker.fail(tracker.begin(), FAILURE)
    tracker.begin()
    watched.clock.advance(10)
    tracker.tick()
    assert watched.states == ["active", "error", "active"]


def test_a_read_counts_once_it_has_lasted(watched: Watched) -> None:
    tracker = watched.tracker
    read = tracker.begin_read()
    assert tracker.tick() == pytest.approx(0.25)
    assert watched.states == []
    watched.clock.advance(0.25)
    tracker.tick()
    assert tracker.in_flight == 1
    tracker.end_read(read)
    assert watched.states == ["active", "idle"]


def test_a_short_read_leaves_no_trace(watched: Watched) -> None:
    tracker = watched.tracker
    tracker.end_read(tracker.begin_read())
    watched.clock.advance(1)
    assert tracker.tick() is None
    assert watched.states == []


def test_a_read_that_fails_early_is_told_at_once(watched: Watched) -> None:
    tracker = watched.tracker
    tracker.ready()
    tracker.fail_read(tracker.begin_read(), FAILURE)
    assert watched.states == ["idle", "error"]
    assert tracker.in_flight == 0


def test_closing_a_read_twice_changes_nothing(watched: Watched) -> None:
    tracker = watched.tracker
    read = tracker.begin_read()
    watched.clock.advance(1)
    tracker.tick()
    tracker.end_read(read)
    tracker.end_read(read)
    tracker.fail_read(read, FAILURE)
    assert tracker.in_flight == 0
    assert watched.states == ["active", "idle"]


def test_many_short_reads_wake_the_reporter_once_within_the_grace() -> None:
    wakes: list[None] = []
    watched = Watched()
    watched.bell = Bell(lambda: wakes.append(None))
    tracker = Tracker(watched.outbox, watched.bell, read_grace=0.25, monotonic=watched.clock)
    for _ in range(1000):
        tracker.end_read(tracker.begin_read())
        watched.bell.listening = True  # the reporter sleeps again
    assert len(wakes) == 1
    tracker.tick()  # it looked, and nothing is open any more
    tracker.begin_read()
    assert len(wakes) == 2


def test_a_late_end_of_a_finished_instance_changes_nothing(watched: Watched) -> None:
    tracker = watched.tracker
    tracker.lifespan_begins()
    tracker.ready()
    late = tracker.begin()
    tracker.shutdown()
    tracker.lifespan_ends()
    tracker.end(late)
    assert watched.states == ["initializing", "idle", "active", "draining", "finished"]
    tracker.lifespan_begins()
    tracker.ready()
    tracker.end(late)
    tracker.fail(late, FAILURE)
    assert watched.states[5:] == ["initializing", "idle"]
    assert tracker.in_flight == 0


def test_a_new_lifespan_after_finished_is_another_instance(watched: Watched) -> None:
    tracker = watched.tracker
    for _ in range(2):
        tracker.lifespan_begins()
        tracker.ready()
        tracker.shutdown()
        tracker.lifespan_ends()
    instances = [entry.instance.instance_id for entry in watched.entries]
    assert len(set(instances[:4])) == len(set(instances[4:])) == 1
    assert instances[0] != instances[4]
    assert [entry.sequence for entry in watched.entries] == [1, 2, 3, 4] * 2


def test_the_first_of_two_lifespans_to_stop_does_not_say_finished(watched: Watched) -> None:
    tracker = watched.tracker
    for _ in range(2):
        tracker.lifespan_begins()
        tracker.ready()
    tracker.shutdown()
    tracker.lifespan_ends()
    assert watched.states == ["initializing", "idle"]
    tracker.shutdown()
    tracker.lifespan_ends()
    assert watched.states == ["initializing", "idle", "draining", "finished"]


def test_lifespans_that_stop_together_drain_before_they_finish(watched: Watched) -> None:
    tracker = watched.tracker
    for _ in range(2):
        tracker.lifespan_begins()
        tracker.ready()
    for _ in range(2):
        tracker.shutdown()
    assert tracker.state is AgentState.DRAINING
    for _ in range(2):
        tracker.lifespan_ends()
    assert watched.states == ["initializing", "idle", "draining", "finished"]


@pytest.mark.parametrize("how", ["failed", "unsupported"])
def test_a_lifespan_that_never_ran_does_not_keep_the_agent_from_draining(
    how: str, watched: Watched
) -> None:
    tracker = watched.tracker
    for _ in range(3):
        tracker.lifespan_begins()
    tracker.ready()
    tracker.shutdown()
    if how == "failed":
        tracker.startup_failed(FAILURE)
    else:
        tracker.lifespan_unsupported()
    tracker.shutdown()
    assert tracker.state is AgentState.DRAINING


def test_draining_stays_whatever_begins_or_fails(watched: Watched) -> None:
    tracker = watched.tracker
    tracker.lifespan_begins()
    tracker.ready()
    tracker.shutdown()
    tracker.fail(tracker.begin(), FAILURE)
    tracker.fail_read(tracker.begin_read(), FAILURE)
    tracker.end(tracker.begin())
    assert tracker.state is AgentState.DRAINING


def test_an_error_stands_as_the_last_word_of_a_process(watched: Watched) -> None:
    tracker = watched.tracker
    tracker.lifespan_begins()
    tracker.startup_failed(FAILURE)
    tracker.process_ends()
    assert watched.states == ["initializing", "error"]


def test_work_that_began_before_a_fork_leaves_no_trace_in_the_child(watched: Watched) -> None:
    tracker = watched.tracker
    before = tracker.begin()
    parent = tracker.instance
    tracker.reset()  # what a forked child does
    tracker.end(before)
    assert tracker.in_flight == 0
    child = tracker.begin()
    assert child.instance_id != parent.instance_id
    assert watched.entries[-1].sequence == 1


def test_a_read_that_begins_as_a_new_instance_does_ends_with_it() -> None:
    outbox = Outbox()

    class Racing(Clock):
        def __call__(self) -> float:
            if tracker.state is AgentState.FINISHED:
                tracker.lifespan_begins()  # another thread's, at the worst moment
            return self.now

    clock = Racing()
    tracker = Tracker(outbox, Bell(lambda: None), read_grace=0.25, monotonic=clock)
    tracker.lifespan_begins()
    tracker.lifespan_ends()
    read = tracker.begin_read()
    clock.advance(1)
    tracker.tick()
    tracker.end_read(read)
    assert tracker.in_flight == 0


def test_a_request_that_the_collector_ends_while_another_reports_does_not_hang() -> None:
    """Collecting an abandoned request closes its coroutine, wherever an allocation is made."""
    outbox = Outbox()
    abandoned: list[object] = []

    def clock() -> float:
        if abandoned:
            tracker.end(abandoned.pop())  # type: ignore[arg-type]
        return 0.0

    tracker = Tracker(outbox, Bell(lambda: None), clock=clock)
    tracker.ready()
    abandoned.append(tracker.begin())
    failing = tracker.begin()
    thread = threading.Thread(target=tracker.fail, args=(failing, FAILURE), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert tracker.in_flight == 0


def test_an_error_that_is_told_again_keeps_its_reason() -> None:
    outbox = Outbox()
    tracker = Tracker(outbox, Bell(lambda: None))
    tracker.fail(tracker.begin(), {"error": {"type": "ValueError", "message": "boom"}})
    tracker.restate()
    *_, failed, again = outbox.take()
    assert failed.state == again.state == "error"
    assert failed.details == again.details
    assert again.sequence == failed.sequence + 1
