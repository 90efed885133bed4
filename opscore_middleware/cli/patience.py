"""Looking again and again, through what passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from opscore_middleware.client.following import PASSING
from opscore_middleware.errors import RemoteError, RemoteUnavailable

__all__ = ["answered", "pauses"]

_SOONEST: Final = 0.2
_LATEST: Final = 1.0
_SLOWER: Final = 1.1

T = TypeVar("T")


def pauses() -> Iterator[float]:
    """Yield the seconds until each next look: fewer at first, since much is soon over."""
    pause = _SOONEST
    while True:
        yield pause
        pause = min(_SLOWER * pause, _LATEST)


def answered(question: Callable[[], T], waits: Iterator[float]) -> T:
    """Return an answer as soon as there is one: who watches goes on once Ops-Core is back.

    Raises `RemoteError` for what does not pass with time.
    """
    while True:
        try:
            return question()
        except RemoteUnavailable:
            pass
        except RemoteError as error:
            if error.remote_status not in PASSING:
                raise
        time.sleep(next(waits))
