"""How often a large fleet is counted: its cost does not grow with those who ask."""

from __future__ import annotations

from typing import Final

from opscore_middleware.core.clock import Clock
from opscore_middleware.core.fleet import Headcount
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.store import Store

__all__ = ["SMALL", "STALE_PER_AGENT", "Headcounts"]

SMALL: Final = 1000
"""As many agents are counted whenever somebody asks; it takes some milliseconds."""

STALE_PER_AGENT: Final = 50
"""For how long a larger fleet's count stands, in microseconds for each agent: half a second for
10,000. To count takes some three microseconds for each, so six percent of the time at most."""


class Headcounts:
    """Counts the fleet, unless a large one has just been counted.

    Args:
        store: what is counted.
        clock: returns now, in microseconds since the Unix epoch.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._last: Headcount | None = None
        self._stands_until = 0

    async def take(self, mark: Watermark) -> Headcount:
        """Return how many there are of each kind; of a large fleet, how many there just were."""
        now = self._clock()
        if self._last is not None and now < self._stands_until:
            return self._last
        self._last = await self._store.headcount(mark=mark)
        agents = sum(crew.agents for crew in self._last.crews)
        self._stands_until = now + STALE_PER_AGENT * agents if agents > SMALL else 0
        return self._last
