"""Tells Ops-Core how far tasks are, when there is nothing more important to tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from opscore_middleware.agent.delivery import backoff, retry_after
from opscore_middleware.agent.link import Link, Unreachable
from opscore_middleware.agent.progress import ProgressBoard
from opscore_middleware.protocol import reporting

__all__ = ["WITHOUT", "Herald"]

WITHOUT: Final = 600.0
"""Seconds for which a server is not asked again for a route that it does not have."""


class Herald:
    """Takes what is up on a board to Ops-Core, one task at a time.

    It is news for a moment: what Ops-Core refuses goes. What it cannot take now waits its turn
    again, and holds up no report meanwhile.
    """

    def __init__(self, board: ProgressBoard, link: Link, monotonic: Callable[[], float]) -> None:
        self._board = board
        self._link = link
        self._monotonic = monotonic
        self._failures = 0
        self._from = 0.0  # when Ops-Core may have a route for it
        self.not_before = 0.0
        """When it may be tried again."""

    def tell(self) -> None:
        """Tell how far one task is. Raises `Unreachable`."""
        progress = self._board.take()
        if progress is None or self._monotonic() < self._from:
            return
        try:
            answer = self._link.send(reporting.progress_task(*progress))
        except Unreachable:
            self._board.put_back(progress)
            raise
        if answer.status == 429 or answer.status >= 500:
            self._board.put_back(progress)
            self._failures += 1
            asked = retry_after(answer, now=time.time()) or 0.0
            self.not_before = self._monotonic() + asked + backoff(self._failures)
            return
        self._failures = 0
        if answer.status in {404, 405} and answer.code is None:
            self._from = self._monotonic() + WITHOUT
