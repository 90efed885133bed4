"""Time as a number: microseconds since the Unix epoch, UTC, handed in wherever it is needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["LATEST", "SECOND", "Clock", "from_micros", "system_clock", "to_micros"]

SECOND: Final = 1_000_000
"""One second in microseconds."""

Clock = Callable[[], int]
"""Returns now, in microseconds since the Unix epoch, UTC."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def system_clock() -> int:
    """Return the machine's time in microseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1000


def to_micros(moment: datetime) -> int:
    """Convert an aware time, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Convert back to an aware UTC time, exactly."""
    return _EPOCH + timedelta(microseconds=micros)


LATEST: Final = to_micros(datetime.max.replace(tzinfo=UTC))
"""The last moment that `from_micros` can tell, at the end of the year 9999."""
