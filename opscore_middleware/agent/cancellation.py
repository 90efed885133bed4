"""Tracked work by its task, so that a task that is cancelled at Ops-Core stops here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from threading import RLock

from opscore_middleware.agent.correlation import Task

__all__ = ["Cancellations"]

logger = logging.getLogger("opscore_middleware")

_Running = tuple[asyncio.AbstractEventLoop, "asyncio.Task[object]"]


class Cancellations:
    """Knows which asyncio tasks work on which task of Ops-Core's, and cancels them.

    Args:
        on_cancel: called with the id of a cancelled task, in the reporter's thread, instead.
    """

    def __init__(self, on_cancel: Callable[[str], None] | None) -> None:
        self._on_cancel = on_cancel
        self._lock = RLock()  # reentrant, as the tracker's
        self._running: dict[str, list[_Running]] = {}
        self._done: set[str] = set()

    def reset(self) -> None:
        """Forget what the parent process works on, after a fork."""
        self._lock = RLock()
        self._running = {}

    def add(self, task: Task | None) -> None:
        """Note that the running asyncio task works on a task."""
        if task is not None and (running := _running_here()) is not None:
            with self._lock:
                self._running.setdefault(task.task_id, []).append(running)

    def discard(self, task: Task | None) -> None:
        """Note that the running asyncio task has stopped working on a task."""
        if task is None:
            return
        here = _running_here()
        with self._lock:
            left = [x for x in self._running.get(task.task_id, ()) if x != here]
            if left:
                self._running[task.task_id] = left
            else:
                self._running.pop(task.task_id, None)

    def cancel(self, task_ids: Iterable[str]) -> None:
        """Cancel the work on these tasks, each once however often it is asked for."""
        wanted = set(task_ids)
        for task_id in wanted - self._done:
            self._cancel(task_id)
        self._done = wanted

    def _cancel(self, task_id: str) -> None:
        if self._on_cancel is not None:
            try:
                self._on_cancel(task_id)
            except Exception:
                logger.exception("on_cancel failed for task %r", task_id)
            return
        with self._lock:
            running = self._running.get(task_id, [])
        for loop, task in running:
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                pass  # the loop is closed, and the work with it


def _running_here() -> _Running | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    task = asyncio.current_task(loop)
    return None if task is None else (loop, task)
