"""How often values fell into which range, in plain numbers: noting one costs next to nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

__all__ = ["Histogram"]


class Histogram:
    """Counts values by the first bound that they do not exceed; one place is for those beyond.

    One thread notes values; any may read, and finds numbers that are at most a moment apart.
    """

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Note a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
