"""How far tasks are, until the reporter has told it: of each, the latest alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

__all__ = ["Progress", "ProgressBoard"]

MESSAGE_LIMIT: Final = 1000
"""The longest message that is told, in characters."""
LIMIT: Final = 1024
"""Of how many tasks progress may wait to be told; beyond it that of others is not taken."""


class Progress(NamedTuple):
    """How far an attempt at a task is, from 0 to 1, and in words."""

    task_id: str
    progress: float
    message: str | None


class ProgressBoard:
    """Where any thread puts up how far a task is, and the reporter's takes it.

    Args:
        wake: called when something was put up.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.reset()

    def reset(self) -> None:
        """Start over, in a forked child."""
        self._lock = threading.Lock()
        self._waiting: dict[str, Progress] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, task_id: str, progress: float, message: str | None) -> None:
        """Put up how far a task is, in place of what was up for it."""
        if message is not None:
            message = message.encode("utf-8", "replace").decode()[:MESSAGE_LIMIT]
        with self._lock:
            if task_id not in self._waiting and len(self._waiting) >= LIMIT:
                return
            self._waiting[task_id] = Progress(task_id, progress, message)
        self._wake()

    def take(self) -> Progress | None:
        """Take down what has waited longest."""
        with self._lock:
            for task_id in self._waiting:
                return self._waiting.pop(task_id)
        return None

    def put_back(self, progress: Progress) -> None:
        """Put up again what could not be told, unless there is something newer."""
        with self._lock:
            self._waiting.setdefault(progress.task_id, progress)

    def clear(self) -> None:
        """Take down everything."""
        with self._lock:
            self._waiting.clear()

    def forget(self, task_id: str) -> None:
        """Take down what is up for a task, which has ended."""
        with self._lock:
            self._waiting.pop(task_id, None)
