"""What dispatch counts, for those who measure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from opscore_middleware.core.histogram import Histogram
from opscore_middleware.core.runs.tasks import Route

__all__ = ["Tally"]

# An idle agent has its task within milliseconds; a minute is a fleet with too much to do.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 60.0, 300.0)


class Tally:
    """Plain numbers of one server.

    `claims` are the attempts that it gave out, `sends` what became of them by route and outcome,
    `latency` how long tasks that were ready waited until an agent had them, in seconds.
    """

    def __init__(self) -> None:
        self.claims = 0
        self.sends: Counter[tuple[str, str]] = Counter()
        self.latency = Histogram(_SECONDS)

    def taken(self, route: Route, waited: float) -> None:
        """Note that an attempt was taken, after so many seconds."""
        self.sends[route.value, "taken"] += 1
        self.latency.observe(max(waited, 0.0))

    def refused(self, route: str, outcome: str) -> None:
        """Note that an attempt was not taken: `final`, `later` or `failed`."""
        self.sends[route, outcome] += 1
