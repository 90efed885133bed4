"""The thread that tells: it sleeps until there is something to say, and nobody waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["Deliverer", "Reporter"]

logger = logging.getLogger("opscore_middleware")

GLANCE: Final = 0.25
"""Seconds between looks at deadlines while a delivery is waited for."""


class Deliverer(Protocol):
    """Brings transitions to where they belong; see `courier.Courier`."""

    def deliver(self, *, urgent: bool) -> float | None:
        """Try once; return the seconds until the next try, or None when nothing is left."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Reporter:
    """Runs deliveries and deadlines in a daemon thread that starts with the first `wake`.

    A thread and not a task of the app's loop: loops are cancelled, blocked, replaced and closed
    by servers and test clients, and delivery must go on through all of it.

    The thread is woken through a plain lock used as a binary semaphore. A waker that finds it
    working already only leaves a mark, which costs next to nothing; `release` never blocks, so it
    is safe even where a signal has interrupted another waker.

    Args:
        deliverer: what brings the transitions away.
        tick: does what is due and returns the seconds until something will be.
        over: tells whether nothing can follow any more, so that the thread may end.
    """

    def __init__(
        self, deliverer: Deliverer, tick: Callable[[], float | None], over: Callable[[], bool]
    ) -> None:
        self._deliverer = deliverer
        self._tick = tick
        self._over = over
        self._reset()

    def _reset(self) -> None:
        self._starting = threading.Lock()
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._marked = False
        self._listening = False
        self._stopped = False
        self._flushes: list[threading.Event] = []

    def after_fork(self) -> None:
        """Forget the thread, which stayed in the parent process."""
        self._reset()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None

    def wake(self) -> None:
        """Say that there is something new. Cheap, never blocks on anything but thread start."""
        self._marked = True
        if self._listening:
            self._listening = False
            self._ring()
        elif self._thread is None:
            self._start()

    def flush(self, timeout: float) -> None:
        """Try to deliver everything now and wait for that, at most `timeout` seconds."""
        if self._thread is None:
            return  # it ends only when all is told
        done = threading.Event()
        self._flushes.append(done)
        self._ring()
        done.wait(timeout)

    def stop(self) -> None:
        """Let the thread end after one more try, without waiting for it."""
        self._stopped = True
        self._ring()

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it rings already

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None or self._stopped:
                return
            thread = threading.Thread(target=self._run, name="opscore-reporter", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:
                self._thread = None  # the interpreter is shutting down

    def _run(self) -> None:
        while True:
            self._marked = False
            try:
                due, retry = self._round()
            except Exception:
                # Never the end of the thread: a fault here must not silence the agent for good.
                logger.exception("Reporting failed unexpectedly; going on in a second")
                due, retry = None, 1.0
            if self._stopped or (retry is None and self._over()):
                if self._may_end():
                    return
            else:
                self._sleep(due, retry)

    def _round(self) -> tuple[float | None, float | None]:
        """Do all there is to do.

        Returns the seconds until a deadline, and until the next try of a delivery; each None
        where there is none.
        """
        due = self._tick()
        flushes, self._flushes = self._flushes, []
        urgent = bool(flushes) or self._stopped
        retry = self._deliverer.deliver(urgent=urgent)
        while urgent and retry == 0.0:
            retry = self._deliverer.deliver(urgent=True)
        for done in flushes:
            done.set()
        return due, retry

    def _sleep(self, due: float | None, retry: float | None) -> None:
        if retry is not None:
            # While a delivery is waited for, what is new only joins the queue: no need to wake.
            self._bell.acquire(timeout=min(retry, GLANCE if due is None else due))
            return
        self._listening = True
        if not self._marked:
            self._bell.acquire(timeout=-1 if due is None else due)
        self._listening = False

    def _may_end(self) -> bool:
        with self._starting:
            if self._stopped or not (self._marked or self._flushes):
                self._thread = None
                self._deliverer.close()
            # A waker that came in between has left its mark before it looked for the thread.
            if self._marked and not self._stopped:
                self._thread = threading.current_thread()
        return self._thread is None
