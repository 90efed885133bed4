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
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Chain the handlers, in the main thread only: elsewhere Python does not allow it."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            before = signal.getsignal(number)
            # None: set by other than Python, and so beyond our reach.
            if before is not None and before is not signal.SIG_IGN and before != self._handle:
                self._before[number] = before
                signal.signal(number, self._handle)

    def uninstall(self) -> None:
        """Put back what was there, unless somebody has put theirs over ours.

        Then theirs still hands on to us, and we to what was there.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in list(self._before.items()):
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
                del self._before[number]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._heard()
        before = self._before.get(number, signal.SIG_DFL)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
