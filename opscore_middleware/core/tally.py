"""What Ops-Core has taken since it started, and how fast that went lately."""

from __future__ import annotations

from collections import deque
from typing import Final

from opscore_middleware.core.clock import SECOND

__all__ = ["Tally"]

_WINDOW: Final = 60 * SECOND


class Tally:
    """Counts what one Ops-Core has taken; a look each second says how much of it was lately."""

    def __init__(self) -> None:
        self.accepted = 0
        self.duplicates = 0
        self.heartbeats = 0
        self._looks: deque[tuple[int, int]] = deque()

    def look(self, now: int) -> None:
        """Remember how much was taken until now, in microseconds."""
        if self._looks and now <= self._looks[-1][0]:
            self._looks.clear()  # the clock was set back
        self._looks.append((now, self.accepted))
        while self._looks[0][0] < now - _WINDOW:
            self._looks.popleft()

    @property
    def reports_per_second(self) -> float:
        """How many new reports a second were taken in the last minute that was looked at."""
        if len(self._looks) < 2:
            return 0.0
        (began, before), (ended, after) = self._looks[0], self._looks[-1]
        return (after - before) * SECOND / (ended - began)
