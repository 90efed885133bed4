"""Tracked work by its task, so that a task that is cancelled at Ops-Core stops here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from threading import RLock
from typing import NamedTuple

from opscore_middleware.agent.correlation import Task

__all__ = ["Cancellations"]

logger = logging.getLogger("opscore_middleware")


class Running(NamedTuple):
    """An asyncio task that works on a task of Ops-Core's."""

    task_id: str
    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[object]


class Cancellations:
    """Knows which asyncio tasks work on which task of Ops-Core's, and cancels them.

    Args:
        on_cancel: called with the id of a cancelled task, in the reporter's thread, instead.
    """

    def __init__(self, on_cancel: Callable[[str], None] | None) -> None:
        self._on_cancel = on_cancel
        self._lock = RLock()  # reentrant, as the tracker's
        self._running: list[Running] = []  # a unit each; a few, so that searching is quick
        self._done: set[str] = set()

    def reset(self) -> None:
        """Forget what the parent process works on, after a fork."""
        self._lock = RLock()
        self._running = []
        self._done = set()

    def add(self, task: Task | None) -> Running | None:
        """Note that the running asyncio task works on a task; what is returned ends that."""
        running = None if task is None else _running_here(task.task_id)
        if running is not None:
            with self._lock:
                self._running.append(running)
        return running

    def discard(self, running: Running | None) -> None:
        """Note that a unit of the work is over, wherever its end is seen."""
        if running is not None:
            with self._lock:
                if running in self._running:  # unless it began before a fork
                    self._running.remove(running)

    def cancel(self, task_ids: Iterable[str]) -> None:
        """Cancel the work on these tasks, each once however often it is asked for.

        Where there is none yet, the next time that it is asked for may find some.
        """
        wanted = set(task_ids)
        done = {task_id for task_id in wanted - self._done if self._cancel(task_id)}
        self._done = (self._done & wanted) | done

    def _cancel(self, task_id: str) -> bool:
        if self._on_cancel is not None:
            try:
                self._on_cancel(task_id)
            except BaseException:  # SystemExit as well: it would end the reporter's thread
                logger.exception("on_cancel failed for task %r", task_id)
            return True
        with self._lock:
            found = {(x.loop, x.task) for x in self._running if x.task_id == task_id}
        for loop, task in found:
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                pass  # the loop is closed, and the work with it
        return bool(found)


def _running_here(task_id: str) -> Running | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    task = asyncio.current_task(loop)
    return None if task is None else Running(task_id, loop, task)
