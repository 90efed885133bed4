"""How much may wait to be written: past that the server says so, and takes no more on."""

from __future__ import annotations

from typing import Final

from opscore_middleware.core.jitter import between
from opscore_middleware.errors import Overloaded
from opscore_middleware.server.logs import get_logger

__all__ = ["Waiting"]

log = get_logger(__name__)

# Spread, so that those who were sent away do not come back as one.
_SHORTEST: Final = 1
_LONGEST: Final = 4


class Waiting:
    """Counts what waits for its commit, and refuses more than a limit.

    The last to be let in may go over the limit: it is asked before anything of a request is read,
    when nobody knows yet how many reports it brings.

    Args:
        what: what is counted, in the plural, for the refusal.
        limit: how many may wait.
    """

    def __init__(self, what: str, limit: int) -> None:
        self.count = 0
        self._what = what
        self._limit = limit
        self._refused = 0  # since it was last told that all is well

    def check(self) -> None:
        """Raise `Overloaded` when no more may wait."""
        if self.count >= self._limit:
            if not self._refused:
                log.warning("overloaded", waiting=self._what, limit=self._limit)
            self._refused += 1
            seconds = round(between(_SHORTEST, _LONGEST))
            raise Overloaded(
                f"{self.count} {self._what} are waiting to be written, and {self._limit} may "
                f"(OPSCORE_MAX_PENDING); send this again in {seconds} s.",
                retry_after=seconds,
            )

    def add(self, count: int) -> None:
        """Let so many in, who call `remove` when they are written. Raises `Overloaded`."""
        self.check()
        self.count += count

    def remove(self, count: int) -> None:
        """Let so many out."""
        self.count -= count
        if self._refused and self.count <= self._limit // 2:
            log.info("overload_over", waiting=self._what, refused=self._refused)
            self._refused = 0
