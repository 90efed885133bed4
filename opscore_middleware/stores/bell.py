"""Waking whoever waits for events, from any thread."""

from __future__ import annotations

import asyncio

__all__ = ["Bell"]


class Bell:
    """Rung when there is something new, and heard by one waiter at a time, also when it rang
    before the waiter came.

    Ringing while nobody waits costs the setting of an attribute.
    """

    def __init__(self) -> None:
        self._rung = False
        self._sleeper: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the waiter, or let the next one not wait at all."""
        if self._rung:
            return
        self._rung = True
        sleeper = self._sleeper
        if sleeper is None:
            return
        try:
            sleeper.get_loop().call_soon_threadsafe(_wake, sleeper)
        except RuntimeError:  # the loop is closed, so nobody waits any more
            pass

    async def wait(self, timeout: float) -> None:
        """Return when it was rung since the last time, at the latest after `timeout` seconds."""
        # In this order: whoever rings first sets the mark and then looks for a sleeper.
        self._sleeper = asyncio.get_running_loop().create_future()
        try:
            if not self._rung:
                await asyncio.wait((self._sleeper,), timeout=timeout)
        finally:
            self._sleeper = None
        self._rung = False


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
