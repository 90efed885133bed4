"""When Ops-Core rather doubts itself: most of the fleet falls silent together.

Then the likelier cause is its own network, or its own machine, and to call everybody lost would be
wrong for most. So for one interval nobody becomes lost who was not. Who is silent after that is
lost: an incident is doubted once, and over when most of the fleet is heard from again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark

__all__ = ["LONGEST", "SMALLEST_FLEET", "Census", "Doubt", "consider", "trusted"]

SMALLEST_FLEET: Final = 10
"""How many instances must be silent before that is anything but chance."""

LONGEST: Final = 60 * SECOND
"""How long Ops-Core doubts itself at most, in microseconds, whatever interval is advertised."""


class Census(NamedTuple):
    """How the instances fare that send heartbeats, have not finished, and were not lost before.

    `silent` are those that are late or lost now, `lost` those of them that are lost; `interval` is
    the longest that any of the silent advertised, in microseconds.
    """

    fleet: int
    silent: int
    lost: int
    interval: int


class Doubt(NamedTuple):
    """An incident: what was heard until `mark` is trusted, nothing else until `until`.

    `silent` of `fleet` instances were silent when it began.
    """

    mark: Watermark
    until: int
    silent: int
    fleet: int

    def in_force(self, now: int) -> bool:
        """Tell whether nobody becomes lost yet; `now` is the watermark's."""
        return now < self.until


def consider(
    doubt: Doubt | None, before: Watermark, mark: Watermark, census: Census
) -> Doubt | None:
    """Return the incident that is on, if one is.

    `before` is the watermark that `census` was taken against: the one before `mark`, or that of
    the incident that is on. `census` shows who fell silent since.
    """
    if doubt is not None and doubt.in_force(mark.seen_at):
        return doubt  # to the end, so that everybody has an interval in which to be heard from
    most = census.silent >= SMALLEST_FLEET and 2 * census.silent > census.fleet
    if not most:
        return None
    if doubt is not None:
        return doubt
    if not census.lost:
        return None
    until = mark.seen_at + min(census.interval, LONGEST)
    return Doubt(before, until, census.silent, census.fleet)


def trusted(doubt: Doubt | None, mark: Watermark) -> Watermark:
    """Return the watermark that liveness goes by: while in doubt the one from before it."""
    if doubt is None or not doubt.in_force(mark.seen_at):
        return mark
    return doubt.mark
