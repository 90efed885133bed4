"""How late the app's event loop is, asked from outside it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["LoopLag"]

Schedule = Callable[[Callable[[], Any]], Any]


class LoopLag:
    """Asks a loop to run a callback now and then, and sees how long that takes.

    A loop that is blocked answers late or not at all; the time that it has owed an answer counts.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._schedule: Schedule | None = None
        self._asked: float | None = None
        self._lag: float | None = None

    def attach(self) -> None:
        """Take the running loop as the app's; to be called within it. asyncio and trio."""
        self._schedule = _scheduler()
        self._asked = self._lag = None

    def reset(self) -> None:
        """Forget the loop, after a fork."""
        self._schedule = None

    def measure(self) -> float | None:
        """Ask again, and return the lag that is known now, in seconds; None without a loop."""
        now = self._monotonic()
        if self._schedule is None:
            return None
        if self._asked is not None:
            return max(self._lag or 0.0, now - self._asked)
        self._asked = now
        try:
            self._schedule(self._answer)
        except Exception:
            # The loop is closed: a test client's, or one of several.
            self._schedule = self._asked = None
        return self._lag

    def _answer(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self._lag = self._monotonic() - asked


def _scheduler() -> Schedule | None:
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        pass
    trio = sys.modules.get("trio")  # an app that runs on trio has imported it
    if trio is None:
        return None
    try:
        schedule: Schedule = trio.lowlevel.current_trio_token().run_sync_soon
    except RuntimeError:
        return None
    return schedule
