"""Measuring what the product costs, on a machine that has other things to do."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["least"]


def least(measure: Callable[[], float], *, below: float, tries: int = 5) -> float:
    """Measure until the result is below a bound, a few times at most; return the least result.

    What the product costs is in every result, what a busy machine adds in some of them.
    """
    results: list[float] = []
    while len(results) < tries and not (results and results[-1] < below):
        results.append(measure())
    return min(results)
