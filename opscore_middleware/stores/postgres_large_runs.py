"""The tasks of large runs in PostgreSQL, of which only those are read that have changed since."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from opscore_middleware.core.runs.tasks import Task
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_tasks import FIELDS, task_of

__all__ = ["LargeRuns"]

_LARGE: Final = 64
"""How many tasks a run has that is not read whole again."""

_ROOM: Final = 32 * 1024 * 1024
_TASK: Final = 1024
"""About what a task takes in memory beside its texts, in bytes."""


class _Known:
    """The tasks of one run as they were last read, and which transaction had written each."""

    __slots__ = ("size", "tasks", "written_by")

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.written_by: dict[str, int] = {}
        self.size = 0


class LargeRuns:
    """What this replica has read of large runs, so that it need not be sent again.

    PostgreSQL notes with each row which transaction wrote it. Who writes tasks of a run holds the
    lock of its session to the end, and who reads them here holds it too; so of a transaction that
    has written one of them, all that it wrote was there to be read. What has been written since is
    what others wrote, whichever replica, of whatever release. Nothing is kept but what was on disk
    then, so there is nothing to be undone.

    That holds for one history of the database. Another one begins where a standby takes over that
    has not heard of everything, or where a backup is restored, which ends all connections; so all
    is forgotten whenever a connection is made.

    Args:
        room: about how much memory it may take, in bytes; a single run may take more.
    """

    def __init__(self, *, room: int = _ROOM) -> None:
        self._room = room
        self._size = 0
        self._runs: OrderedDict[int, _Known] = OrderedDict()  # what was read longest ago first

    def __contains__(self, session_key: int) -> bool:
        return session_key in self._runs

    def note(self, session_key: int, tasks: int) -> None:
        """Note how many tasks a run has that was just read whole."""
        if tasks >= _LARGE:
            self._runs[session_key] = _Known()

    def forget(self) -> None:
        """Have all be read whole again."""
        self._runs.clear()
        self._size = 0

    async def read(self, connection: Connection, session_key: int) -> dict[str, Task]:
        """Return the tasks of a run that was noted, and whose session is locked, by their ids in
        the order in which they were made."""
        known = self._runs.pop(session_key)
        self._size -= known.size
        writers = set(known.written_by.values())
        for row in await connection.fetch(_SINCE, session_key, list(writers)):
            task = task_of(row)
            known.size += _size(task) - _size(known.tasks.get(task.task_id))
            known.tasks[task.task_id] = task
            known.written_by[task.task_id] = row["written_by"]
        self._runs[session_key] = known
        self._size += known.size
        while self._size > self._room and len(self._runs) > 1:
            _, oldest = self._runs.popitem(last=False)
            self._size -= oldest.size
        return dict(known.tasks)


def _size(task: Task | None) -> int:
    if task is None:
        return 0
    return _TASK + sum(map(len, _texts(task)))


def _texts(task: Task) -> Iterable[str]:
    return filter(None, (task.parameters, task.result, task.error))


# Numbers of transactions are compared as what they are, which the server has a hash for.
_SINCE: Final = f"""
    SELECT {FIELDS}, t.xmin::text::bigint AS written_by
    FROM opscore.tasks AS t JOIN opscore.sessions AS s ON s.session_key = t.session_key
    WHERE t.session_key = $1
      AND t.xmin NOT IN (SELECT writer::text::xid FROM unnest($2::bigint[]) AS writer)
    ORDER BY t.task_key"""  # noqa: S608 - made of constants
