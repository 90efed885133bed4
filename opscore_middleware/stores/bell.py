"""Waking whoever waits for events, from any thread."""

from __future__ import annotations

import asyncio
import threading

__all__ = ["Bell"]


class Bell:
    """Rung when there is something new, and heard by any number of waiters, each of whom says up to
    which ring it has heard: so it misses none that came while it was busy.

    Ringing while nobody waits costs a lock and a number.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rings = 0
        self._sleepers: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake all who wait, or let them not wait at all when they come."""
        with self._lock:
            self._rings += 1
            sleepers, self._sleepers = self._sleepers, set()
        for sleeper in sleepers:
            try:
                sleeper.get_loop().call_soon_threadsafe(_wake, sleeper)
            except RuntimeError:  # the loop is closed, so nobody waits any more
                pass

    async def wait(self, timeout: float, *, after: int) -> int:
        """Return once there was a ring later than `after`, at the latest after `timeout` seconds.

        Returns the number of the last ring, to be handed in the next time; 0 before the first.
        """
        sleeper = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._rings > after:
                return self._rings
            self._sleepers.add(sleeper)
        try:
            await asyncio.wait((sleeper,), timeout=timeout)
        finally:
            with self._lock:
                self._sleepers.discard(sleeper)
        return self._rings


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
