"""What is kept in memory because it is asked for often, and found again where it is not kept."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["Kept"]

K = TypeVar("K")
V = TypeVar("V")


class Kept(dict[K, V]):
    """A mapping that lets go of the oldest entries when it holds more than `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        if key not in self and len(self) >= self._most:
            self.pop(next(iter(self)), None)
        super().__setitem__(key, value)
