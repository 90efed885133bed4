"""Which work is in flight and what that makes the agent's state."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from opscore_middleware.agent.outbox import Instance, Outbox
from opscore_middleware.core.states import TRANSITIONS, AgentState, Cause

__all__ = ["Tracker", "Work"]


class Work:
    """One unit of work; `Tracker.begin` opens it and `Tracker.end` closes it, once."""

    __slots__ = ("counted", "instance", "since")

    def __init__(self, instance: Instance, counted: bool, since: float) -> None:
        self.instance = instance
        self.counted = counted
        self.since = since


class Tracker:
    """Counts units of work and puts each change of state into the outbox.

    Thread-safe, without I/O. Every change goes through `core.states.TRANSITIONS`.

    Args:
        outbox: where transitions go.
        wake: called after something was put or a deadline was set; must return at once.
        error_hold: seconds for which `error` stays when nothing else happens.
        read_grace: seconds after which a read counts as work.
        clock: seconds since the epoch, for what people see.
        monotonic: seconds of a clock that is never set, for deadlines.
    """

    def __init__(
        self,
        outbox: Outbox,
        wake: Callable[[], None],
        *,
        error_hold: float = 5.0,
        read_grace: float = 0.25,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._wake = wake
        self._error_hold = error_hold
        self._read_grace = read_grace
        self._clock = clock
        self._monotonic = monotonic
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._lifespans = 0
        self._new_instance()

    def _new_instance(self) -> None:
        self.instance = Instance(uuid.uuid4().hex, self._clock())
        self._sequence = 0
        self._state = AgentState.UNKNOWN
        self._row = TRANSITIONS[AgentState.UNKNOWN]
        self._in_flight = 0
        self._held_until: float | None = None
        self._reads: set[Work] = set()

    def after_fork(self) -> None:
        """Start over in a forked child: its own instance, a lock that nobody holds."""
        self._outbox.clear()
        self._reset()

    @property
    def state(self) -> AgentState:
        """The state as it is now."""
        return self._state

    @property
    def in_flight(self) -> int:
        """How many units of work are open."""
        return self._in_flight

    # --- units of work ---------------------------------------------------------------------------

    def begin(self) -> Work:
        """Open a unit of work."""
        with self._lock:
            self._in_flight += 1
            if self._in_flight == 1:
                self._on(Cause.BEGAN)
        return Work(self.instance, True, 0.0)

    def begin_read(self) -> Work:
        """Open a unit that counts only once it has lasted for `read_grace`."""
        work = Work(self.instance, False, self._monotonic())
        with self._lock:
            first = not self._reads
            self._reads.add(work)
        if first:
            self._wake()
        return work

    def end(self, work: Work) -> None:
        """Close a unit that ended well, or whose failure is nobody's fault here."""
        with self._lock:
            if self._close(work) and self._in_flight == 0:
                self._on(Cause.ENDED)

    def fail(self, work: Work, details: dict[str, Any]) -> None:
        """Close a unit that failed; a read that fails is told even if it never counted."""
        with self._lock:
            if work in self._reads or self._close(work):
                self._reads.discard(work)
                self._on(Cause.FAILED, details)
                self._held_until = None
                if self._in_flight:
                    self._on(Cause.RESUMED)
                elif self._state is AgentState.ERROR:
                    self._held_until = self._monotonic() + self._error_hold
                    self._wake()

    def _close(self, work: Work) -> bool:
        """Take a unit out; True when it counted. One from before a fork is another instance's."""
        counted, work.counted = work.counted, False
        if not counted:
            self._reads.discard(work)
        elif work.instance is self.instance:
            self._in_flight -= 1
            return True
        return False

    # --- the process -----------------------------------------------------------------------------

    def lifespan_begins(self) -> None:
        """A lifespan starts; after `finished` it opens a new instance."""
        with self._lock:
            if self._state is AgentState.FINISHED:
                self._new_instance()
            self._lifespans += 1
            self._on(Cause.STARTING)

    def served_without_lifespan(self) -> None:
        """A request came that is no work: an agent that nothing is known of is ready."""
        with self._lock:
            if self._state is AgentState.UNKNOWN:
                self._on(Cause.READY)

    def ready(self) -> None:
        """Startup is complete."""
        with self._lock:
            self._on(Cause.READY)

    def startup_failed(self, details: dict[str, Any]) -> None:
        """Startup has failed; the state stays `error`."""
        with self._lock:
            self._on(Cause.STARTUP_FAILED, details)

    def lifespan_unsupported(self) -> None:
        """The app has no lifespan after all: it is ready, and nobody will say when it ends."""
        with self._lock:
            self._lifespans -= 1
            self._on(Cause.READY)

    def shutdown(self) -> None:
        """Shutdown begins; other lifespans around the same app keep the agent up."""
        with self._lock:
            if self._lifespans <= 1:
                self._on(Cause.DRAIN)

    def lifespan_ends(self) -> None:
        """A lifespan is over; the last one finishes the instance."""
        with self._lock:
            self._lifespans = max(0, self._lifespans - 1)
            if self._lifespans == 0:
                self._on(Cause.FINISH)

    def process_ends(self) -> None:
        """The process ends, whatever lifespans there are; an error stands as its last word."""
        with self._lock:
            if self._state is not AgentState.ERROR:
                self._on(Cause.FINISH)

    # --- time ------------------------------------------------------------------------------------

    def tick(self) -> float | None:
        """Do what is due; return the seconds until something will be, or None."""
        now = self._monotonic()
        with self._lock:
            if self._held_until is not None and self._held_until <= now:
                self._held_until = None
                self._on(Cause.HELD)
            for work in [w for w in self._reads if w.since + self._read_grace <= now]:
                self._reads.discard(work)
                work.counted = True
                self._in_flight += 1
                if self._in_flight == 1:
                    self._on(Cause.BEGAN)
            deadlines = [work.since + self._read_grace for work in self._reads]
            if self._held_until is not None:
                deadlines.append(self._held_until)
        return max(0.0, min(deadlines) - now) if deadlines else None

    def _on(self, cause: Cause, details: dict[str, Any] | None = None) -> None:
        """Step through the table and tell; the caller holds the lock."""
        state = self._row.get(cause)
        if state is None:
            return
        self._state = state
        self._row = TRANSITIONS[state]
        self._held_until = None
        self._sequence += 1
        self._outbox.put(self.instance, self._sequence, state, self._clock(), details)
        self._wake()
