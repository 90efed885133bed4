"""Which tasks have ended here, so that the end of each is told once."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["EndedTasks"]

LIMIT: Final = 1024
"""How many are remembered; the earliest are forgotten first."""


class EndedTasks:
    """Remembers the attempts that have ended; its caller holds a lock."""

    __slots__ = ("_ids", "_order")

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._order: deque[str] = deque()

    def ends(self, task_id: str) -> bool:
        """Remember that an attempt has ended; False where it had ended before."""
        if task_id in self._ids:
            return False
        self._ids.add(task_id)
        self._order.append(task_id)
        if len(self._order) > LIMIT:
            self._ids.discard(self._order.popleft())
        return True
