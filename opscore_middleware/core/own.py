"""What each process has for itself, forked or not."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Own"]

T = TypeVar("T")


class Own(Generic[T]):
    """Something that a forked child makes anew when it first asks for it, such as connections.

    With those of its parent, each of the two would read answers that the other waits for. They
    are left alone and not closed: a thread that stayed in the parent may hold their locks.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._of = {os.getpid(): make()}

    def __call__(self) -> T:
        """Return this process's."""
        pid = os.getpid()
        own = self._of.get(pid)
        # Of two threads that are the first at once, both get what one has made.
        return self._of.setdefault(pid, self._make()) if own is None else own
