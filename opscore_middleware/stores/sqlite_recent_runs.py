"""Runs that are at hand, as the file has them, for the one thread that changes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from opscore_middleware.core.runs.changes import Change, changes
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.tasks import Task
from opscore_middleware.stores.sqlite_kept_runs import Kept, kept_runs, session_ids_of_tasks

__all__ = ["RecentRuns"]

_ROOM: Final = 32 * 1024 * 1024
_TASK: Final = 1024
"""About what a task takes in memory beside its texts, in bytes."""


class _Shelved(NamedTuple):
    kept: Kept
    size: int


class RecentRuns:
    """The runs that were last started, read or changed, so that a step seldom has to read one.

    What is here is what the file says, as the open transaction has left it. One thread of one
    process writes to the file, and each verb that changes runs says so here; what is undone is let
    go of. To let go is always right, since what is not here is read.

    Args:
        connection: the one that writes to the database.
        room: about how much memory it may take, in bytes; a single run may take more.
    """

    def __init__(self, connection: sqlite3.Connection, *, room: int = _ROOM) -> None:
        self._connection = connection
        self._room = room
        self._shelf: dict[str, _Shelved] = {}  # what was put there longest ago first
        self._session_ids: dict[str, str] = {}  # of all tasks of the runs on it
        self._size = 0
        self._unsettled: set[str] = set()

    # --- looking for them ------------------------------------------------------------------------

    def get(self, session_id: str) -> Kept | None:
        """Return a run that is at hand."""
        shelved = self._shelf.get(session_id)
        return None if shelved is None else shelved.kept

    def find(self, session_ids: Iterable[str]) -> dict[str, Kept]:
        """Return runs by their sessions' ids, those that are not at hand read from the file.

        Unknown ones are left out.
        """
        found: dict[str, Kept] = {}
        missing: list[str] = []
        for session_id in session_ids:
            kept = self.get(session_id)
            if kept is None:
                missing.append(session_id)
            else:
                found[session_id] = kept
        if missing:
            read = kept_runs(self._connection, session_ids=missing)
            for kept in read.values():
                self.put(kept)
            found |= read
        return found

    def sessions_of(self, task_ids: Collection[str]) -> dict[str, str]:
        """Return the ids of the sessions that tasks belong to; unknown ones are left out."""
        known = self._session_ids
        found = {task_id: known[task_id] for task_id in task_ids if task_id in known}
        if len(found) < len(task_ids):
            missing = [task_id for task_id in task_ids if task_id not in found]
            found |= session_ids_of_tasks(self._connection, missing)
        return found

    # --- keeping them right ----------------------------------------------------------------------

    def put(self, kept: Kept, changed: Iterable[Change] | None = None) -> None:
        """Have a run as it was just read or written; `changed` is what differs from the one that
        was here, and spares looking through all of it."""
        run = kept.run
        past = self._shelf.pop(run.session_id, None)
        if past is None:
            size = _texts_of(run)
            changed = [Change(None, task) for task in run.tasks.values()]
        else:
            size = past.size
            self._size -= size
            if run.result is not past.kept.run.result or run.error is not past.kept.run.error:
                size += _texts_of(run) - _texts_of(past.kept.run)
            if changed is None:
                changed = changes(past.kept.run, run)
        for before, task in changed:
            if before is None:
                size += _size(task)
                self._session_ids[task.task_id] = run.session_id
            elif _has_other_texts(task, before):
                size += _size(task) - _size(before)
        self._shelf[run.session_id] = _Shelved(kept, size)
        self._size += size
        self._unsettled.add(run.session_id)
        while self._size > self._room and len(self._shelf) > 1:
            self.drop(next(iter(self._shelf)))

    def drop(self, session_id: str) -> None:
        """Let go of a run, if it is here."""
        shelved = self._shelf.pop(session_id, None)
        if shelved is not None:
            self._size -= shelved.size
            for task_id in shelved.kept.run.tasks:
                del self._session_ids[task_id]

    def settle(self) -> None:
        """Begin what may be undone by itself: all that was put here before stays."""
        self._unsettled.clear()

    def undo(self) -> None:
        """Let go of what was put here since."""
        for session_id in self._unsettled:
            self.drop(session_id)
        self._unsettled.clear()

    def clear(self) -> None:
        """Let go of all runs."""
        self._shelf.clear()
        self._session_ids.clear()
        self._unsettled.clear()
        self._size = 0


def _texts_of(run: Run) -> int:
    return len(run.initial_payload or "") + len(run.result or "") + len(run.error or "")


def _size(task: Task) -> int:
    return _TASK + sum(len(text) for text in _texts(task) if text)


def _has_other_texts(task: Task, before: Task) -> bool:
    return (
        task.result is not before.result
        or task.parameters is not before.parameters
        or task.error is not before.error
    )


def _texts(task: Task) -> tuple[str | None, str | None, str | None]:
    return task.parameters, task.result, task.error
