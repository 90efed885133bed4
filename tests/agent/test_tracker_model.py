"""The tracker against a naive model: whatever happens in whatever order, both say the same."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from opscore_middleware.agent.bell import Bell
from opscore_middleware.agent.outbox import Entry, Outbox
from opscore_middleware.agent.tracker import Tracker
from tests.agent.support import Clock

GRACE, HOLD = 0.25, 5.0
FAILURE = {"error": {"type": "ValueError", "message": "no"}}
OVER = {"draining", "finished"}


class Unit:
    """Work as the model sees it: which life it belongs to, and whether it counts."""

    def __init__(self, life: int, since: float, handle: Any, *, counts: bool) -> None:
        self.life = life
        self.since = since
        self.handle = handle
        self.counts = counts
        self.open = True


class Lifespan:
    """One lifespan: `starting`, `up`, `leaving` or `gone`."""

    def __init__(self) -> None:
        self.phase = "starting"


class TrackerMachine(RuleBasedStateMachine):
    """Drives a tracker, and beside it a model that follows the documented rules word by word."""

    units = Bundle("units")
    reads = Bundle("reads")
    lifespans = Bundle("lifespans")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.outbox = Outbox(limit=10**9)
        self.tracker = Tracker(
            self.outbox,
            Bell(lambda: None),
            error_hold=HOLD,
            read_grace=GRACE,
            clock=self.clock,
            monotonic=self.clock,
        )
        self.told: list[tuple[int, int, str]] = []
        self.all: list[Unit] = []
        self.around: list[Lifespan] = []
        self.life = 0
        self.born()

    # --- the model ---

    def born(self) -> None:
        self.life += 1
        self.state = "UNKNOWN"
        self.sequence = 0
        self.held_until: float | None = None

    def enter(self, state: str) -> None:
        self.state = state
        self.held_until = None
        self.sequence += 1
        self.told.append((self.life, self.sequence, state))

    @property
    def working(self) -> int:
        return sum(u.open and u.counts and u.life == self.life for u in self.all)

    def began(self) -> None:
        if self.working == 1 and self.state not in OVER:
            self.enter("active")

    def ended(self) -> None:
        if self.working == 0 and self.state == "active":
            self.enter("idle")

    def failed(self) -> None:
        if self.state in OVER:
            return
        self.enter("error")
        if self.working:
            self.enter("active")
        else:
            self.held_until = self.clock.now + HOLD

    # --- work ---

    @rule(target=units)
    def begin(self) -> Unit:
        unit = Unit(self.life, self.clock.now, self.tracker.begin(), counts=True)
        self.all.append(unit)
        self.began()
        return unit

    @rule(unit=units)
    def end(self, unit: Unit) -> None:
        if unit.open:
            unit.open = False
            self.tracker.end(unit.handle)
            if unit.life == self.life:
                self.ended()

    @rule(unit=units)
    def fail(self, unit: Unit) -> None:
        if unit.open:
            unit.open = False
            self.tracker.fail(unit.handle, FAILURE)
            if unit.life == self.life:
                self.failed()

    @rule(target=reads)
    def begin_read(self) -> Unit:
        read = Unit(self.life, self.clock.now, self.tracker.begin_read(), counts=False)
        self.all.append(read)
        return read

    @rule(read=reads)
    def end_read(self, read: Unit) -> None:
        self.tracker.end_read(read.handle)  # closing it again must be fine
        counted, read.open = read.open and read.counts, False
        if counted and read.life == self.life:
            self.ended()

    @rule(read=reads)
    def fail_read(self, read: Unit) -> None:
        self.tracker.fail_read(read.handle, FAILURE)
        was_open, read.open = read.open, False
        if was_open and read.life == self.life:
            self.failed()

    # --- the process ---

    @precondition(lambda self: sum(x.phase != "gone" for x in self.around) < 3)
    @rule(target=lifespans)
    def lifespan_begins(self) -> Lifespan:
        lifespan = Lifespan()
        if self.state == "finished":
            self.born()
        self.around.append(lifespan)
        self.tracker.lifespan_begins()
        if self.state == "UNKNOWN":
            self.enter("initializing")
        return lifespan

    @rule(lifespan=lifespans, how=st.sampled_from(["complete", "failed", "unsupported"]))
    def startup(self, lifespan: Lifespan, how: str) -> None:
        if lifespan.phase != "starting":
            return
        lifespan.phase = "up" if how == "complete" else "gone"
        if how == "failed":
            self.tracker.startup_failed(FAILURE)
            if self.state not in OVER:
                self.enter("error")
            return
        if how == "complete":
            self.tracker.ready()
        else:
            self.tracker.lifespan_unsupported()
        if self.state in {"UNKNOWN", "initializing", "error"}:
            self.enter("idle")

    @rule(lifespan=lifespans)
    def shutdown(self, lifespan: Lifespan) -> None:
        if lifespan.phase != "up":
            return
        lifespan.phase = "leaving"
        self.tracker.shutdown()
        staying = [x for x in self.around if x.phase in {"starting", "up"}]
        if not staying and self.state not in OVER:
            self.enter("draining")

    @rule(lifespan=lifespans)
    def lifespan_ends(self, lifespan: Lifespan) -> None:
        if lifespan.phase != "leaving":
            return
        lifespan.phase = "gone"
        self.tracker.lifespan_ends()
        if all(x.phase == "gone" for x in self.around) and self.state != "finished":
            self.enter("finished")

    @precondition(lambda self: all(x.phase == "gone" for x in self.around))
    @rule()
    def live_once_and_start_again(self) -> None:
        """Make what outlives a life as common as it is hard to get right."""
        for _ in range(2):
            lifespan = self.lifespan_begins()
            self.startup(lifespan, "complete")
            self.shutdown(lifespan)
            self.lifespan_ends(lifespan)
        self.startup(self.lifespan_begins(), "complete")

    @rule()
    def served_without_lifespan(self) -> None:
        self.tracker.served_without_lifespan()
        if self.state == "UNKNOWN":
            self.enter("idle")

    @rule()
    def restate(self) -> None:
        self.tracker.restate()
        if self.sequence:
            held = self.held_until
            self.enter(self.state)
            self.held_until = held

    # --- time ---

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.25, 1.0, 5.0]))
    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.tracker.tick()
        if self.held_until is not None and self.held_until <= self.clock.now:
            self.enter("idle")
        for read in self.all:
            due = read.life == self.life and read.since + GRACE <= self.clock.now
            if read.open and not read.counts and due:
                read.counts = True
                self.began()

    # --- what must always hold ---

    @invariant()
    def the_same_is_told(self) -> None:
        entries = [Entry._make(entry) for entry in self.outbox.entries]
        lives: list[str] = []
        for entry in entries:
            if entry.instance.instance_id not in lives:
                lives.append(entry.instance.instance_id)
        told = [(e.instance.instance_id, e.sequence, e.state.value) for e in entries]
        numbers = sorted({life for life, _, _ in self.told})
        names = dict(zip(numbers, lives, strict=True))
        assert told == [(names[life], sequence, state) for life, sequence, state in self.told]

    @invariant()
    def the_state_is_the_models(self) -> None:
        assert self.tracker.state.value == self.state
        assert self.tracker.in_flight == self.working >= 0

    @invariant()
    def finished_is_the_end_of_a_life(self) -> None:
        last: dict[int, str] = {}
        for life, _, state in self.told:
            assert last.get(life) != "finished" or state == "finished"
            last[life] = state


TrackerMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestTracker = TrackerMachine.TestCase
