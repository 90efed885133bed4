"""One who watches: what waits to be sent to it, within bounds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from opscore_middleware.core.watch import Wanted

__all__ = ["Watcher", "welcome"]

# What is written at once: more would only lie in the connection's buffer, once for each reader.
_WRITE: Final = 64 * 1024


def welcome() -> bool:
    """Say that whoever watches may go on."""
    return True


class Watcher:
    """Takes chunks from the hub and hands them to whoever sends them on.

    Chunks are shared with all who want the same. Once `limit` bytes wait, they are all dropped,
    `is_lagging` says so, and nothing more is taken; `taken` is where to go on then.

    Args:
        wanted: the events that are told to it.
        limit: how many bytes may wait; a single chunk may be larger.
        peer: the address that it watches from.
        may_stay: tells whether its key still opens what it watches.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        limit: int,
        peer: tuple[str, int] | None = None,
        may_stay: Callable[[], bool] = welcome,
    ) -> None:
        self.wanted = wanted
        self.peer = peer
        self.may_stay = may_stay
        self.joined = 0
        self.taken = 0
        self.is_lagging = False
        self.is_gone = False
        self.is_barred = False
        self._limit = limit
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._wake: asyncio.Future[None] | None = None

    @property
    def has_chunks(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._chunks)

    def put(self, last: int, chunk: bytes) -> None:
        """Add a chunk, after which the watcher has seen all events up to the id `last`."""
        if self.is_lagging or self.is_barred:
            return
        if self._chunks and self._size + len(chunk) > self._limit:
            self._chunks.clear()
            self.is_lagging = True
        else:
            self._chunks.append((last, chunk))
            self._size += len(chunk)
        self.wake()

    def take(self) -> bytes:
        """Return what waits, as much of it as is good to write at once; empty for nothing."""
        if not self._chunks:
            return b""
        self.taken, first = self._chunks.popleft()
        size = len(first)
        parts = [first]
        while self._chunks and size + len(self._chunks[0][1]) <= _WRITE:
            self.taken, chunk = self._chunks.popleft()
            parts.append(chunk)
            size += len(chunk)
        self._size -= size
        return first if len(parts) == 1 else b"".join(parts)

    def leave(self) -> None:
        """Note that nobody reads any more."""
        self.is_gone = True
        self._chunks.clear()
        self.wake()

    def bar(self) -> None:
        """Tell it nothing more, not even what waits."""
        self.is_barred = True
        self._chunks.clear()
        self.wake()

    def wake(self) -> None:
        """Let whoever sleeps look again."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def sleep(self) -> None:
        """Sleep until woken; to be called right after a look that found nothing."""
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None
