"""A clock that stands until a test moves it."""

from __future__ import annotations

from opscore_middleware.core.clock import SECOND

__all__ = ["MovedClock"]


class MovedClock:
    """Returns microseconds since the Unix epoch, as `core.clock.Clock` does."""

    def __init__(self, now: int = 1_790_000_000 * SECOND) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def move(self, seconds: float) -> None:
        """Let time pass, or go back."""
        self.now += round(seconds * SECOND)
