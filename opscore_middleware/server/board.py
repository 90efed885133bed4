"""What each of several workers shows to the others and to their supervisor, in memory they share.

Nothing of it is a file, so nothing is left behind, however the processes end.
"""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.context import SpawnContext
from typing import Final

__all__ = ["Page", "Seat", "seats"]

_ROOM: Final = 256 * 1024
"""How long a page may be, in bytes; a page of metrics has about 20,000."""


class Page:
    """A text that one process writes and any reads: the last that was written whole, even where
    its writer was killed in the middle of the next.
    """

    def __init__(self, context: SpawnContext, room: int = _ROOM) -> None:
        self._halves = (context.RawArray("c", room), context.RawArray("c", room))
        self._sizes = context.RawArray("q", 2)
        self._turn = context.RawValue("Q", 0)
        self._room = room

    def write(self, text: bytes) -> None:
        """Replace what is there. Raises `ValueError` for what is too long."""
        if len(text) > self._room:
            raise ValueError(f"{len(text)} bytes are more than a page holds, which is {self._room}")
        turn = self._turn.value + 1
        self._halves[turn % 2][: len(text)] = text
        self._sizes[turn % 2] = len(text)
        self._turn.value = turn  # from here on it is the one that is read

    def read(self) -> bytes:
        """Return what was written last, nothing where nothing was."""
        while True:
            turn = self._turn.value
            text = self._halves[turn % 2][: self._sizes[turn % 2]]
            if self._turn.value == turn:
                return bytes(text)


class Seat:
    """The place of one worker, as its process and all others see it; whoever takes it over finds
    what the one before has written.
    """

    def __init__(self, number: int, pages: Sequence[Page], context: SpawnContext) -> None:
        self.page = pages[number]
        self.pages = pages
        """Those of all, its own among them."""
        self._beats = context.RawValue("Q", 0)

    @property
    def beats(self) -> int:
        """How often a worker has said here that it is alive."""
        return int(self._beats.value)

    def beat(self) -> None:
        """Say that the worker is alive."""
        self._beats.value += 1


def seats(context: SpawnContext, count: int) -> list[Seat]:
    """Return places for so many workers."""
    pages = [Page(context) for _ in range(count)]
    return [Seat(number, pages, context) for number in range(count)]
