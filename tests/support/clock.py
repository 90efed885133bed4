"""A clock that stands until a test moves it."""

from __future__ import annotations

from anyio import Event
from anyio.lowlevel import checkpoint

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

    async def listen(self, seconds: float) -> None:
        """Be the pause of a server's loops: that of the one that listens lets a second pass.

        The others have had their turn; were their pauses to pass too, nobody would have listened.
        """
        if seconds != 1:
            await Event().wait()
        self.move(seconds)
        await checkpoint()
