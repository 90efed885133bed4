"""Hears of SIGTERM and SIGINT at once, and leaves them to whoever handled them before."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

__all__ = ["SignalWatch"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class SignalWatch:
    """Chains a handler before the ones that are set.

    The handler takes no lock and logs nothing, since it may run inside anything; it calls `heard`,
    which must be as careful. What a signal would have done without us it does after.

    Args:
        heard: called when the process is asked to end.
    """

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._links: dict[int, _Link] = {}

    def install(self) -> None:
        """Chain the handlers, in the main thread only: elsewhere Python does not allow it."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            before = signal.getsignal(number)
            # None: set by other than Python, and so beyond our reach.
            if before is None or before is signal.SIG_IGN or number in self._links:
                continue
            self._links[number] = link = _Link(before, self._heard)
            signal.signal(number, link)

    def uninstall(self) -> None:
        """Put back what was there, unless somebody has put theirs over ours.

        Then theirs still hands on to us, and we to what was there.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number, link in self._links.items():
            link.heard = _nothing
            now: Any = signal.getsignal(number)
            if now is link:
                signal.signal(number, link.before)
        self._links.clear()


class _Link:
    """One place in the chain. It is never used again, so that no chain can be a ring."""

    def __init__(self, before: Any, heard: Callable[[], None]) -> None:
        self.before = before
        self.heard = heard

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.heard()
        if callable(self.before):
            self.before(number, frame)
        elif self.before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _nothing() -> None:
    """Stand in for a watch that has ended, where others still hand on to it."""
