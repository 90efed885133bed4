"""Which work is in flight and what that makes the agent's state."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from opscore_middleware.agent.bell import Bell
from opscore_middleware.agent.nodes import NODES, Node
from opscore_middleware.agent.outbox import Instance, Outbox
from opscore_middleware.agent.read import Read
from opscore_middleware.agent.results import without_result
from opscore_middleware.agent.view import View
from opscore_middleware.core.states import AgentState, Cause

__all__ = ["Tracker"]


class Tracker:
    """Counts units of work and puts each change of state into the outbox.

    Thread-safe, without I/O. Every change goes through `core.states.TRANSITIONS`.

    `begin` returns the instance that the unit belongs to, to be handed back to `end` or `fail`,
    once: what began before a fork, or before the agent finished, ends without a trace.

    Args:
        outbox: where transitions go.
        bell: wakes whoever empties the outbox and keeps the deadlines.
        error_hold: seconds for which `error` stays when nothing else happens.
        read_grace: seconds after which a read counts as work.
        clock: seconds since the epoch, for what people see.
        monotonic: seconds of a clock that is never set, for deadlines.
    """

    __slots__ = (
        "_at",
        "_bell",
        "_clock",
        "_error",
        "_error_hold",
        "_held_until",
        "_in_flight",
        "_lifespans",
        "_monotonic",
        "_node",
        "_outbox",
        "_read_grace",
        "_reads",
        "_sequence",
        "_timing",
        "_up",
        "instance",
        "lock",
    )

    def __init__(
        self,
        outbox: Outbox,
        bell: Bell,
        *,
        error_hold: float = 5.0,
        read_grace: float = 0.25,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._bell = bell
        self._error_hold = error_hold
        self._read_grace = read_grace
        self._clock = clock
        self._monotonic = monotonic
        outbox.standing = self._standing
        self.reset()

    def reset(self) -> None:
        """Start over as another instance, with a lock that nobody holds: for a forked child."""
        self.lock = self._outbox.lock
        """Under it units open and close, those of the tracker and those tracked in a request."""
        self._lifespans = 0
        self._up = 0  # of these, how many were not told to stop
        self._new_instance()

    def _new_instance(self) -> None:
        self._outbox.close()
        self.instance = Instance(uuid.uuid4().hex, self._clock())
        self._node = NODES[AgentState.UNKNOWN]
        self._sequence = 0
        self._at = 0.0  # when the state was entered
        self._in_flight = 0
        self._held_until: float | None = None
        self._error: dict[str, Any] | None = None  # the details of the last failure
        self._reads: set[Read] = set()
        self._timing = False  # somebody will look at the reads within their grace

    @property
    def state(self) -> AgentState:
        """The state as it is now."""
        return self._node.state

    @property
    def in_flight(self) -> int:
        """How many units of work are open."""
        return self._in_flight

    def view(self) -> View:
        """Return what is true at this moment, all of it together."""
        with self.lock:
            return View(self.instance, self._node.state, self._sequence, self._in_flight)

    def restate(self) -> None:
        """Tell the current state again, under the next sequence, to a server that has lost it."""
        with self.lock:
            if self._sequence:
                self._restate(None)

    def _restate(self, details: dict[str, Any] | None) -> None:
        if self._node.state is AgentState.ERROR:
            # What is told of the state goes in place of what was told before: keep the reason.
            details = {**(self._error or {}), **(details or {})}
        self._enter(self._node, details)
        self._settle()

    def _settle(self) -> None:
        """Say so where the collector has ended the last unit in the middle of a step."""
        if not self._in_flight and self._node.state is AgentState.ACTIVE:
            self._on(Cause.ENDED)

    # --- units of work ---------------------------------------------------------------------------

    # `with` on a lock costs twice what these two calls do, and they run in every request.

    def begin(self, details: dict[str, Any] | None = None) -> Instance:
        """Open a unit of work; `details` are told even where the state stays as it is."""
        lock = self.lock
        lock.acquire()
        try:
            self._in_flight = in_flight = self._in_flight + 1
            if in_flight == 1 and (node := self._node.began) is not None:
                self._enter(node, details)
            elif details is not None:
                self._restate(details)
            return self.instance
        finally:
            lock.release()

    def end(self, unit: Instance, details: dict[str, Any] | None = None) -> None:
        """Close a unit that ended well, or whose failure is nobody's fault here.

        `details` are told even where the state stays as it is.
        """
        self.lock.acquire()
        try:
            self.ended(unit, details)
        finally:
            self.lock.release()

    def ended(self, unit: Instance, details: dict[str, Any] | None = None) -> None:
        """Do what `end` does, for a caller that holds `lock` already."""
        if unit is self.instance:
            self._in_flight = in_flight = self._in_flight - 1
            if not in_flight and (node := self._node.ended) is not None:
                self._enter(node, details)
            elif details is not None:
                self._restate(details)

    def mention(self, details: dict[str, Any] | None) -> None:
        """Tell details that became known only now, with the state as it is."""
        with self.lock:
            if details is not None and self._sequence:
                self._restate(details)

    def fail(
        self, unit: Instance, details: dict[str, Any], told: dict[str, Any] | None = None
    ) -> None:
        """Close a unit that failed; `told` goes with the details, once, whatever the state."""
        with self.lock:
            if unit is self.instance:
                self._in_flight -= 1
                if told is not None and Cause.FAILED not in self._node.after:
                    self._restate(details | told)
                else:
                    self._failed(details, told)

    def begin_read(self) -> Read:
        """Open a unit that counts only once it has lasted for `read_grace`."""
        read = Read(self.instance, self._monotonic())
        self._reads.add(read)
        if not self._timing:
            self._timing = True
            self._bell.wake()
        return read

    def promote(self, read: Read, details: dict[str, Any] | None = None) -> Instance:
        """Let a read count now; returns the unit that it is from here on."""
        try:
            self._reads.remove(read)
        except KeyError:
            return self._promote_taken(read, details)
        return self.begin(details)

    def _promote_taken(self, read: Read, details: dict[str, Any] | None) -> Instance:
        """Let a read count that counts already, or that its request has just closed."""
        with self.lock:
            if read.counted:
                read.counted = False
                if details is not None:
                    self._restate(details)
            elif read.instance is self.instance:
                self.begin(details)
            return read.instance

    def forget(self, read: Read) -> bool:
        """Close a read that has not come to count, without the lock.

        Whoever takes it out of the set has it: returns False where another thread has done so,
        and the read may count.
        """
        try:
            self._reads.remove(read)
        except KeyError:
            return False
        return True

    def end_read(self, read: Read) -> None:
        """Close a read that ended well, or turned out to be none; closing it again is fine."""
        if not self.forget(read):
            with self.lock:
                if read.counted:
                    read.counted = False
                    self.ended(read.instance)

    def fail_read(self, read: Read, details: dict[str, Any]) -> None:
        """Close a read that failed: that is told even where it had not come to count."""
        with self.lock:
            open_ = self.forget(read)
            counted, read.counted = read.counted, False
            if open_ and read.instance is self.instance:
                self._failed(details)
        if counted:
            self.fail(read.instance, details)

    def fail_aside(self, instance: Instance, details: dict[str, Any]) -> None:
        """Tell of a failure in what was no work, of the instance that it came to."""
        with self.lock:
            if instance is self.instance:
                self._failed(details)

    def _failed(self, details: dict[str, Any], told: dict[str, Any] | None = None) -> None:
        self._error = details
        self._on(Cause.FAILED, details if told is None else details | told)
        if self._in_flight:
            self._on(Cause.RESUMED)
            self._settle()
        elif self._node.state is AgentState.ERROR:
            self._held_until = self._monotonic() + self._error_hold
            self._bell.wake()

    # --- the process -----------------------------------------------------------------------------

    def lifespan_begins(self) -> None:
        """A lifespan starts; after `finished` it opens a new instance."""
        with self.lock:
            if self._node.state is AgentState.FINISHED:
                self._new_instance()
            self._lifespans += 1
            self._up += 1
            self._on(Cause.STARTING)

    def served_without_lifespan(self) -> None:
        """A request came that is no work: an agent that nothing is known of is ready."""
        with self.lock:
            if self._node.state is AgentState.UNKNOWN:
                self._on(Cause.READY)

    def ready(self) -> None:
        """Startup is complete."""
        with self.lock:
            self._on(Cause.READY)

    def startup_failed(self, details: dict[str, Any]) -> None:
        """Startup has failed; the state stays `error`."""
        with self.lock:
            self._up -= 1  # it was not told to stop
            self._leave()
            self._error = details
            self._held_until = None
            self._on(Cause.STARTUP_FAILED, details)

    def lifespan_unsupported(self) -> None:
        """The app has no lifespan after all: it is ready, and nobody will say when it ends."""
        with self.lock:
            self._up -= 1
            self._leave()
            self._on(Cause.READY)

    def drain(self) -> None:
        """The whole process was asked to end, or to take no more work."""
        with self.lock:
            self._on(Cause.DRAIN)

    def shutdown(self) -> None:
        """Shutdown begins; other lifespans around the same app keep the agent up."""
        with self.lock:
            self._up -= 1
            if self._up <= 0:
                self._on(Cause.DRAIN)

    def lifespan_ends(self) -> None:
        """A lifespan is over; the last one finishes the instance."""
        with self.lock:
            self._leave()
            if self._lifespans <= 0:
                self._on(Cause.FINISH)

    def process_ends(self) -> None:
        """The process ends, whatever lifespans there are; an error stands as its last word."""
        with self.lock:
            if self._node.state is not AgentState.ERROR:
                self._on(Cause.FINISH)

    def _leave(self) -> None:
        self._lifespans -= 1
        self._up = min(self._up, self._lifespans)

    # --- time ------------------------------------------------------------------------------------

    def tick(self) -> float | None:
        """Do what is due; return the seconds until something will be, or None."""
        now = self._monotonic()
        with self.lock:
            held_until = self._error_held_until()
            if held_until is not None and held_until <= now:
                self._on(Cause.HELD)
                held_until = None
            self._timing = False  # before they are looked at: a read that comes later rings
            for read in [r for r in list(self._reads) if r.since + self._read_grace <= now]:
                self._count(read)
            deadlines = [read.since + self._read_grace for read in list(self._reads)]
            self._timing = bool(deadlines)
            if held_until is not None:
                deadlines.append(held_until)
        return max(0.0, min(deadlines) - now) if deadlines else None

    def _count(self, read: Read) -> None:
        """Count a read that has lasted, unless it is closed meanwhile."""
        if read.instance is not self.instance:
            self.forget(read)
            return
        # Before it is taken out: who comes right after that is to find it counted.
        read.counted = True
        self._in_flight += 1
        if not self.forget(read):
            read.counted = False
            self._in_flight -= 1
            self._settle()
        elif self._in_flight == 1:
            self._on(Cause.BEGAN)
            self._settle()

    def _error_held_until(self) -> float | None:
        return self._held_until if self._node.state is AgentState.ERROR else None

    def _on(self, cause: Cause, details: dict[str, Any] | None = None) -> None:
        """Step through the table; the caller holds the lock."""
        node = self._node.after.get(cause)
        if node is not None:
            self._enter(node, details)

    def _enter(self, node: Node, details: dict[str, Any] | None = None) -> None:
        """Enter a state and tell; the caller holds the lock."""
        if details is not None or not self._outbox.rushing:
            self._tell(node, details)
            return
        # In a rush whoever takes what is there, which is soon, asks for this as well.
        self._node = node
        self._sequence += 1
        clock = self._clock
        self._at = clock()

    def _tell(self, node: Node, details: dict[str, Any] | None) -> None:
        outbox = self._outbox
        at = self._clock()  # first: what the collector tells meanwhile comes before
        outbox.close()
        self._node, self._sequence, self._at = node, self._sequence + 1, at
        entry = (self.instance, self._sequence, node.state, at, details, 0, 0)
        outbox.put(entry)
        if outbox.heard is not None:
            heard = None if details is None else without_result(details)
            outbox.heard.append((*entry[:4], heard, 0, 0))
        bell = self._bell
        bell.marked = True
        if bell.listening:
            bell.ring()

    def _standing(self) -> tuple[int, AgentState, float]:
        return self._sequence, self._node.state, self._at
