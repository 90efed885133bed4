"""Tasks in SQLite: their columns, writing many at once, and looking for them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import compress
from operator import ne
from typing import Any, Final

from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.runs.tasks import Route, Task, TaskState
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.fleet_sql import SQLITE, lost
from opscore_middleware.stores.sqlite_sets import update

__all__ = [
    "IS_OPEN",
    "OPEN_TASKS",
    "due",
    "get_task",
    "insert_tasks",
    "list_tasks",
    "next_ready_at",
    "on_lost_instances",
    "open_tasks",
    "tasks_of_sessions",
    "unfinished",
    "update_tasks",
]

_RUNNING: Final = frozenset({SessionState.STARTED, SessionState.RUNNING})

_STATE: Final = Task._fields.index("state")
_ROUTE: Final = Task._fields.index("route")
_FLAGS: Final = tuple(Task._fields.index(f) for f in ("rerouted", "inferred", "stopped"))
# Looked up, since making a member of an enumeration from its value takes longer than the rest.
_STATES: Final = {state.value: state for state in TaskState}
_ROUTES: Final = {None: None} | {route.value: route for route in Route}


# --- many at once --------------------------------------------------------------------------------


def tasks_of_sessions(connection: sqlite3.Connection, session_keys: Sequence[int]) -> list[Task]:
    """Return all tasks of some sessions, each session's in the order in which they were made."""
    return _read(connection, _OF_SESSIONS, json.dumps(session_keys))


def insert_tasks(
    connection: sqlite3.Connection, session_key: int, state: SessionState, tasks: Iterable[Task]
) -> None:
    """Keep new tasks of a session that is in this state."""
    connection.executemany(
        _INSERT,
        [
            (
                *(_queue(task, state), session_key, task.task_id, *task[2:_STATE]),
                *(task.state.value, *task[_STATE + 1 : _ROUTE]),
                *(None if task.route is None else task.route.value, *task[_ROUTE + 1 :]),
            )
            for task in tasks
        ],
    )


def update_tasks(
    connection: sqlite3.Connection, changed: Iterable[tuple[Task, Task, SessionState]]
) -> None:
    """Write what has become of tasks: as they were, as they are, and the state of their session.

    Only what differs is written, since each index that holds a column has to follow it.
    """
    alike: dict[tuple[str, ...], list[list[Any]]] = {}
    for before, after, state in changed:
        differs = list(map(ne, before, after))
        new: dict[str, Any] = {"task_id": after.task_id}
        new.update(zip(compress(Task._fields, differs), compress(after, differs), strict=True))
        if before.state is TaskState.READY or after.state is TaskState.READY:
            new["queue"] = _queue(after, state)
        if len(new) > 1:
            alike.setdefault(tuple(new), []).append([*_plain(new).values()])
    for columns, rows in alike.items():
        update(connection, "tasks", columns, rows)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Let fields have values of plain types, which are bound several times as quickly."""
    for name in ("state", "route"):
        if fields.get(name) is not None:
            fields[name] = fields[name].value
    return fields


def _queue(task: Task, state: SessionState) -> str | None:
    """Return what a task waits in to be claimed; the trigger on sessions says the same in SQL."""
    if task.state != TaskState.READY or state not in _RUNNING:
        return None
    return f"capability {task.capability}" if task.pinned is None else f"agent {task.pinned}"


# --- looking for them ----------------------------------------------------------------------------


def get_task(connection: sqlite3.Connection, *, task_id: str) -> Task | None:
    """Keep `core.runs.store.RunStore.get_task`'s promise."""
    return next(iter(_read(connection, f"{_TASK} WHERE t.task_id = ?", task_id)), None)


def list_tasks(
    connection: sqlite3.Connection,
    *,
    session_id: str | None,
    state: TaskState | None,
    agent_id: str | None,
    capability: str | None,
    after: tuple[int, str] | None,
    limit: int,
) -> list[Task]:
    """Keep `core.runs.store.RunStore.list_tasks`'s promise."""
    conditions = ["true"]
    values: dict[str, Any] = {"limit": limit}
    if session_id is not None:
        conditions.append(f"t.session_key = ({_SESSION_KEY} :session_id)")
        values["session_id"] = session_id
    if state is not None:
        conditions.append("t.state = :state")
        values["state"] = state
    if capability is not None:
        conditions.append("t.capability = :capability")
        values["capability"] = capability
    if after is not None:
        conditions.append("(t.created_at, t.task_id) < (:created_at, :after_id)")
        values["created_at"], values["after_id"] = after
    condition = " AND ".join(conditions)
    if agent_id is None:
        query = _newest(condition)
    else:
        query = _newest_of_agent(condition)
        values["agent_id"] = agent_id
    return _tasks(connection.execute(query, values))


def due(connection: sqlite3.Connection, *, now: int, limit: int) -> list[Task]:
    """Keep `core.runs.store.RunStore.due`'s promise."""
    return _read(connection, _DUE, now, limit)


def next_ready_at(connection: sqlite3.Connection, *, after: int) -> int | None:
    """Keep `core.runs.store.RunStore.next_ready_at`'s promise."""
    (earliest,) = connection.execute(_NEXT_READY, (after,)).fetchone()
    return None if earliest is None else int(earliest)


def on_lost_instances(connection: sqlite3.Connection, *, mark: Watermark, limit: int) -> list[Task]:
    """Keep `core.runs.store.RunStore.on_lost_instances`'s promise."""
    return _read(connection, _ON_LOST, *mark, limit)


def open_tasks(connection: sqlite3.Connection, *, agent_ids: Sequence[str]) -> list[Task]:
    """Keep `core.runs.store.RunStore.open_tasks`'s promise."""
    return _read(connection, _OPEN_OF, json.dumps(list(agent_ids)))


def unfinished(connection: sqlite3.Connection) -> dict[TaskState, int]:
    """Keep `core.runs.store.RunStore.unfinished`'s promise."""
    return {_STATES[state]: count for state, count in connection.execute(_UNFINISHED).fetchall()}


def _read(connection: sqlite3.Connection, query: str, *values: Any) -> list[Task]:
    return _tasks(connection.execute(query, values))


def _tasks(rows: sqlite3.Cursor) -> list[Task]:
    rows.row_factory = None  # tuples, since these are read by place
    found: list[Task] = []
    for row in rows.fetchall():
        fields = list(row)
        fields[_STATE] = _STATES[fields[_STATE]]
        fields[_ROUTE] = _ROUTES[fields[_ROUTE]]
        for place in _FLAGS:
            fields[place] = bool(fields[place])
        found.append(Task._make(fields))
    return found


def _newest(condition: str) -> str:
    return f"{_TASK} WHERE {condition} ORDER BY t.created_at DESC, t.task_id DESC LIMIT :limit"


def _newest_of_agent(condition: str) -> str:
    """Return the query for what an agent has or had, and for what waits for it, an index each."""
    had = _newest(f"{condition} AND t.agent_id = :agent_id")
    waits = _newest(f"{condition} AND t.pinned = :agent_id AND t.agent_id IS NOT :agent_id")
    return f"""
        SELECT * FROM (SELECT * FROM ({had}) UNION ALL SELECT * FROM ({waits}))
        ORDER BY created_at DESC, task_id DESC LIMIT :limit"""  # noqa: S608 - made of constants


OPEN_TASKS: Final = "tasks AS t INDEXED BY tasks_open"
"""The table of tasks `t`, to be read by the index of those of which an attempt is out."""

IS_OPEN: Final = """(t.state IN ('dispatched', 'running')
    AND t.agent_id IS NOT NULL AND t.instance_id IS NOT NULL)"""
"""Says of a task `t` that an attempt of it is out; in the words of the index."""

_UNENDED: Final = "t.state IN ('waiting', 'ready', 'dispatched', 'running')"
_SESSION_KEY: Final = "SELECT session_key FROM sessions WHERE session_id ="
_FIELDS: Final = ", ".join(
    "s.session_id" if field == "session_id" else f"t.{field}" for field in Task._fields
)
_TASK: Final = f"""
    SELECT {_FIELDS} FROM tasks AS t CROSS JOIN sessions AS s ON s.session_key = t.session_key
    """  # noqa: S608 - made of constants
_OPEN_TASK: Final = _TASK.replace("tasks AS t", OPEN_TASKS)

_OF_SESSIONS: Final = f"""
    {_TASK} WHERE t.session_key IN (SELECT value FROM json_each(?))
    ORDER BY t.session_key, t.task_key"""  # noqa: S608 - made of constants
_DUE: Final = f"""
    {_TASK.replace("tasks AS t", "tasks AS t INDEXED BY tasks_by_deadline")}
    WHERE {_UNENDED} AND t.deadline_at <= ? ORDER BY t.deadline_at LIMIT ?"""
_OPEN_OF: Final = f"""
    {_OPEN_TASK} WHERE {IS_OPEN} AND t.agent_id IN (SELECT value FROM json_each(?))
    ORDER BY t.task_key"""  # noqa: S608 - made of constants
_ON_LOST: Final = f"""
    {_OPEN_TASK}
    CROSS JOIN agents AS a ON a.agent_id = t.agent_id
    CROSS JOIN instances AS i ON i.agent_key = a.agent_key AND i.instance_id = t.instance_id
    WHERE {IS_OPEN} AND (i.state = '{AgentState.FINISHED}' OR a.deregistered_at IS NOT NULL
                         OR {lost(SQLITE, 1, 2)})
    ORDER BY t.task_key LIMIT ?3"""
_UNFINISHED: Final = f"""
    SELECT t.state, count(*) FROM tasks AS t WHERE {_UNENDED} GROUP BY t.state
    """  # noqa: S608 - made of constants

# From queue to queue, and in each from priority to priority, so that as many rows are looked at as
# there are of these.
_NEXT_READY: Final = """
    WITH RECURSIVE
    queues (queue) AS (
        SELECT min(queue) FROM tasks WHERE queue IS NOT NULL
        UNION ALL
        SELECT (SELECT min(queue) FROM tasks WHERE queue > queues.queue)
        FROM queues WHERE queues.queue IS NOT NULL),
    lanes (queue, priority) AS (
        SELECT queue, (SELECT min(priority) FROM tasks WHERE queue = queues.queue)
        FROM queues WHERE queue IS NOT NULL
        UNION ALL
        SELECT queue, (SELECT min(priority) FROM tasks
                       WHERE queue = lanes.queue AND priority > lanes.priority)
        FROM lanes WHERE priority IS NOT NULL)
    SELECT min((SELECT min(ready_at) FROM tasks
                WHERE queue = lanes.queue AND priority = lanes.priority AND ready_at > ?))
    FROM lanes WHERE priority IS NOT NULL"""

_INSERT: Final = f"""
    INSERT INTO tasks (queue, session_key, task_id, {", ".join(Task._fields[2:])})
    VALUES ({", ".join("?" * (len(Task._fields) + 1))})"""  # noqa: S608 - names of columns
