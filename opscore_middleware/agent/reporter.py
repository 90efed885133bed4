"""The thread that tells: it sleeps until there is something to say, and nobody waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Final, Protocol

from opscore_middleware.agent.bell import Bell

__all__ = ["GLANCE", "Deliverer", "Reporter"]

logger = logging.getLogger("opscore_middleware")

GLANCE: Final = 0.25
"""Seconds between looks at deadlines while a delivery is waited for."""

LINGER: Final = 0.0004
"""Seconds for which who has woken us goes first: a short request then ends before we run, and both
of its transitions are told together."""
GLIMPSE: Final = 0.00002
"""Seconds between looks at whether it has ended, meanwhile."""
GLIMPSES: Final = int(LINGER / GLIMPSE)
"""How often it is looked at, at most."""


class Deliverer(Protocol):
    """Brings transitions to where they belong; see `courier.Courier`."""

    def deliver(self, *, urgent: bool) -> float | None:
        """Try once; return the seconds until the next try, or None when nothing is left."""
        ...

    def beat(self) -> float | None:
        """Say that this instance lives, if due; return the seconds until it is, or None."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Reporter:
    """Runs deliveries and deadlines in a daemon thread that starts with the first thing to say.

    A thread and not a task of the app's loop: loops are cancelled, blocked, replaced and closed
    by servers and test clients, and delivery must go on through all of it.

    Args:
        deliverer: what brings the transitions away.
        tick: does what is due and returns the seconds until something will be, or None.
        over: tells whether nothing can follow any more, so that the thread may end.
        working: tells whether what has begun goes on.
    """

    def __init__(
        self,
        deliverer: Deliverer,
        tick: Callable[[], float | None],
        *,
        over: Callable[[], bool],
        working: Callable[[], bool],
    ) -> None:
        self._deliverer = deliverer
        self._tick = tick
        self._over = over
        self._working = working
        self.bell = Bell(self._start)
        self._reset()

    def _reset(self) -> None:
        self._starting = threading.Lock()
        self._stopped = False
        self._hurried = False
        self._flushes: deque[threading.Event] = deque()

    def after_fork(self) -> None:
        """Forget the thread, which stayed in the parent process."""
        self.bell.reset()
        self._reset()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self.bell.home

    def flush(self, timeout: float) -> None:
        """Try to deliver everything now and wait for that, at most `timeout` seconds."""
        if not self.bell.home:
            return  # the thread ends only when all is told
        done = threading.Event()
        self._flushes.append(done)
        self.bell.ring()
        done.wait(timeout)

    def hurry(self) -> None:
        """Have it look and deliver now, whatever is waited for; takes no lock, for signals."""
        self._hurried = True
        if self.bell.home:
            self.bell.ring()

    def stop(self) -> None:
        """Let the thread end after one more try, without waiting for it."""
        self._stopped = True
        if self.bell.home:
            self.bell.ring()

    def _start(self) -> None:
        with self._starting:
            if self.bell.home or self._stopped:
                return
            self.bell.home = True
            thread = threading.Thread(target=self._run, name="opscore-reporter", daemon=True)
            try:
                # In a context of its own: what starts it is somebody's request, whose trace or
                # scope tracing libraries and later Pythons would hand down for the thread's life.
                Context().run(thread.start)
            except RuntimeError:
                # The interpreter is shutting down, or there are too many threads for now: then
                # the next transition tries again.
                self.bell.home = False
                self.bell.listening = True

    def _run(self) -> None:
        bell = self.bell
        faulty = False
        while True:
            bell.marked = False
            stopping = self._stopped  # who stops it meanwhile is owed one more try
            try:
                due, retry = self._round()
                faulty = False
            except Exception:
                # Never the end of the thread: a fault here must not silence the agent for good,
                # nor fill its log.
                if not faulty:
                    with suppress(Exception):  # the host's own filters and handlers run within
                        logger.exception("Reporting failed unexpectedly; trying again every second")
                faulty, due, retry = True, None, 1.0
            if stopping or (retry is None and self._over()):
                if self._may_end():
                    return
            elif retry is None:
                bell.listen(due)
                if bell.marked:
                    self._linger()
            else:
                # What is new only joins the queue while a delivery is waited for, but a deadline
                # that it brings is kept.
                bell.nap(min(retry, GLANCE if due is None else min(due, GLANCE)))

    def _linger(self) -> None:
        until = time.monotonic() + LINGER
        for _ in range(GLIMPSES):  # the clock may be a test's, and stand still
            if not self._working() or time.monotonic() >= until:
                return
            time.sleep(GLIMPSE)

    def _round(self) -> tuple[float | None, float | None]:
        """Do all there is to do.

        Returns the seconds until a deadline, and until the next try of a delivery; each None
        where there is none.
        """
        hurried, self._hurried = self._hurried, False
        due = self._tick()
        flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
        try:
            urgent = bool(flushes) or self._stopped or hurried
            retry = self._deliverer.deliver(urgent=urgent)
            while urgent and retry == 0.0:
                retry = self._deliverer.deliver(urgent=True)
        finally:
            for done in flushes:
                done.set()
        beat = self._deliverer.beat()
        if beat is not None:
            due = beat if due is None else min(due, beat)
        return due, retry

    def _may_end(self) -> bool:
        # While the connection is this thread's alone; going on after all opens another.
        self._deliverer.close()
        with self._starting:
            self.bell.home = False
            self.bell.listening = True
            # Who came in between has left the mark before looking whether anybody is home.
            if (self.bell.marked or self._flushes) and not self._stopped:
                self.bell.home = True
                return False
        return True
