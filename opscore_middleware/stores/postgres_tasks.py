"""Tasks in PostgreSQL: their columns, writing many at once, and looking for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from operator import is_not
from typing import Any, Final

import asyncpg

from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.runs.tasks import OPEN, Route, Task, TaskState
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.fleet_sql import POSTGRES, lost
from opscore_middleware.stores.postgres_connections import Connection

__all__ = [
    "BY_KEYS",
    "COLUMNS",
    "FIELDS",
    "IS_OPEN",
    "RUNS",
    "TASK",
    "arrays",
    "columns_of",
    "count_unfinished",
    "due",
    "get_task",
    "insert_tasks",
    "list_tasks",
    "next_ready_at",
    "on_lost_instances",
    "open_tasks",
    "task_of",
    "tasks_of",
    "update_tasks",
]

_TYPES: Final = {
    "task_id": "text",
    "node": "text",
    "item": "bigint",
    "name": "text",
    "state": "text",
    "priority": "bigint",
    "pinned": "text",
    "capability": "text",
    "parameters": "text",
    "result": "text",
    "error": "text",
    "attempt": "bigint",
    "spent": "bigint",
    "ready_at": "bigint",
    "start_within": "bigint",
    "deadline_at": "bigint",
    "close_by": "bigint",
    "agent_id": "text",
    "instance_id": "text",
    "route": "text",
    "rerouted": "boolean",
    "inferred": "boolean",
    "progress": "double precision",
    "progress_message": "text",
    "created_at": "bigint",
    "dispatched_at": "bigint",
    "started_at": "bigint",
    "ended_at": "bigint",
    "stopped": "boolean",
}
"""The columns that hold a task, in the order of its fields; those lack `session_id` alone."""

COLUMNS: Final = tuple(_TYPES)
"""The columns that hold a task but for its session, in the order of its fields."""

_WRITTEN_ONCE: Final = frozenset({"task_id", "session_id", "node", "item", "created_at"})
_SESSION: Final = Task._fields.index("session_id")
_STATE: Final = Task._fields.index("state")
_ROUTE: Final = Task._fields.index("route")
_WIDTH: Final = len(Task._fields)

# Looked up, since making a member of an enumeration from its value takes longer than the rest.
_STATES: Final = {state.value: state for state in TaskState}
_ROUTES: Final = {None: None} | {route.value: route for route in Route}


def task_of(row: asyncpg.Record) -> Task:
    """Read a row that begins with `FIELDS`."""
    fields = list(row[:_WIDTH])
    fields[_STATE] = _STATES[fields[_STATE]]
    fields[_ROUTE] = _ROUTES[fields[_ROUTE]]
    return Task._make(fields)


async def tasks_of(connection: Connection, session_keys: Sequence[int]) -> list[Task]:
    """Return all tasks of some sessions, each session's in the order in which they were made."""
    return [task_of(row) for row in await connection.fetch(_OF_SESSIONS, session_keys)]


async def insert_tasks(connection: Connection, tasks: Sequence[tuple[int, Task]]) -> None:
    """Keep new tasks, each with the key of its session."""
    if tasks:
        session_keys = [session_key for session_key, _ in tasks]
        await connection.execute(_INSERT, session_keys, *columns_of(task for _, task in tasks))


async def update_tasks(connection: Connection, changed: Sequence[tuple[Task, Task]]) -> None:
    """Write what has become of tasks: as they were, and as they are.

    Only the columns are sent in which any of them differs; most values take longer to send than to
    write.
    """
    if not changed:
        return
    before, after = (list(zip(*tasks, strict=True)) for tasks in zip(*changed, strict=True))
    columns = {
        field: values
        for field, old, values in zip(Task._fields, before, after, strict=True)
        if field not in _WRITTEN_ONCE and any(map(is_not, old, values)) and old != values
    }
    if columns:
        task_ids = [task.task_id for _, task in changed]
        await connection.execute(_update(tuple(columns)), task_ids, *columns.values())


async def get_task(connection: Connection, *, task_id: str) -> Task | None:
    """Keep `core.runs.store.RunStore.get_task`'s promise."""
    row = await connection.fetchrow(f"{TASK} WHERE t.task_id = $1", task_id)
    return None if row is None else task_of(row)


async def list_tasks(
    connection: Connection,
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
    values: list[Any] = [limit]
    if session_id is not None:
        values.append(session_id)
        conditions.append(f"t.session_key = (SELECT session_key {_BY_ID} = ${len(values)})")
    if state is not None:
        # In the text, so that the server sees which index fits.
        conditions.append(f"t.state = '{state}'")
    if capability is not None:
        values.append(capability)
        conditions.append(f"t.capability = ${len(values)}")
    if after is not None:
        values += after
        conditions.append(f"(t.created_at, t.task_id) < (${len(values) - 1}, ${len(values)})")
    if agent_id is None:
        query = _newest(" AND ".join(conditions))
    else:
        values.append(agent_id)
        query = _newest_of_agent(" AND ".join(conditions), f"${len(values)}")
    return [task_of(row) for row in await connection.fetch(query, *values)]


async def next_ready_at(connection: Connection, *, after: int) -> int | None:
    """Keep `core.runs.store.RunStore.next_ready_at`'s promise."""
    earliest: int | None = await connection.fetchval(_NEXT_READY, after)
    return earliest


async def due(connection: Connection, *, now: int, limit: int) -> list[Task]:
    """Keep `core.runs.store.RunStore.due`'s promise."""
    return [task_of(row) for row in await connection.fetch(_DUE, now, limit)]


async def on_lost_instances(connection: Connection, *, mark: Watermark, limit: int) -> list[Task]:
    """Keep `core.runs.store.RunStore.on_lost_instances`'s promise."""
    return [task_of(row) for row in await connection.fetch(_ON_LOST, *mark, limit)]


async def open_tasks(connection: Connection, *, agent_ids: Sequence[str]) -> list[Task]:
    """Keep `core.runs.store.RunStore.open_tasks`'s promise."""
    return [task_of(row) for row in await connection.fetch(_OPEN_OF, list(agent_ids))]


async def count_unfinished(connection: Connection) -> dict[TaskState, int]:
    """Keep `core.runs.store.RunStore.unfinished`'s promise."""
    return {_STATES[state]: count for state, count in await connection.fetch(_UNFINISHED)}


def columns_of(tasks: Iterable[Task]) -> list[Sequence[object]]:
    """Return the values of tasks by `COLUMNS`; there has to be one task at least."""
    columns: list[Sequence[object]] = list(zip(*tasks, strict=True))
    del columns[_SESSION]
    return columns


@cache
def _update(columns: tuple[str, ...]) -> str:
    """Return the statement that writes these columns."""
    assigned = ", ".join(f"{column} = new.{column}" for column in columns)
    arrays = ", ".join(f"${n}::{_TYPES[column]}[]" for n, column in enumerate(columns, 2))
    return f"""
        UPDATE opscore.tasks AS t SET {assigned}
        FROM unnest($1::text[], {arrays}) AS new (task_id, {", ".join(columns)})
        WHERE t.task_id = new.task_id"""  # noqa: S608 - names of columns


def arrays(first: int) -> str:
    """Return what says in a statement that `COLUMNS` are its parameters from the `first` on."""
    return ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_TYPES.values(), first))


def _newest(condition: str) -> str:
    return f"{TASK} WHERE {condition} ORDER BY t.created_at DESC, t.task_id DESC LIMIT $1"


def _newest_of_agent(condition: str, agent: str) -> str:
    """Return the query for what an agent has or had, and for what waits for it, an index each."""
    had = _newest(f"{condition} AND t.agent_id = {agent}")
    pinned = _newest(f"{condition} AND t.pinned = {agent} AND t.agent_id IS DISTINCT FROM {agent}")
    return f"""
        SELECT * FROM (({had}) UNION ALL ({pinned})) AS found
        ORDER BY created_at DESC, task_id DESC LIMIT $1"""  # noqa: S608 - made of constants


def _list(states: Iterable[TaskState]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(states))


FIELDS: Final = ", ".join(
    "s.session_id" if field == "session_id" else f"t.{field}" for field in Task._fields
)
"""The columns of a task `t` of a session `s`, which `task_of` reads."""

TASK: Final = f"""
    SELECT {FIELDS}
    FROM opscore.tasks AS t JOIN opscore.sessions AS s ON s.session_key = t.session_key
    """  # noqa: S608 - made of constants
"""Selects tasks `t` of sessions `s`; to be followed by a condition, and read by `task_of`."""

IS_OPEN: Final = f"(t.state IN ({_list(OPEN)}) AND t.agent_id IS NOT NULL)"
"""Says of a task `t` that an attempt of it is out; in the words of the index."""

RUNS: Final = (
    "(s.state NOT IN ('paused', 'completed', 'failed', 'cancelled') AND s.workflow_key IS NOT NULL)"
)
"""Says of a session `s` that its tasks may be given out; in words that no index invites to use."""

BY_KEYS: Final = """
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET plan_cache_mode = force_generic_plan;
    SET jit = off;
    SET idle_in_transaction_session_timeout = '10s'"""
"""Has rows looked for one by one, in the indexes of their keys, whatever a connection is asked for;
and ends its transactions when their replica has stopped.

How many tasks are ready or open changes within seconds, from none to a hundred thousand; what the
server last counted is wrong by then, and would let it choose to read them all. How they are looked
for does not depend on what they are then, so it is planned once for each connection.
"""

_UNENDED: Final = "t.state IN ('waiting', 'ready', 'dispatched', 'running')"
_BY_ID: Final = "FROM opscore.sessions WHERE session_id"

_OF_SESSIONS: Final = f"""
    {TASK} WHERE t.session_key = ANY($1::bigint[]) ORDER BY t.session_key, t.task_key"""
_OPEN_OF: Final = f"{TASK} WHERE {IS_OPEN} AND t.agent_id = ANY($1::text[]) ORDER BY t.task_key"
_DUE: Final = f"""
    {TASK} WHERE {_UNENDED} AND t.deadline_at <= $1 ORDER BY t.deadline_at LIMIT $2"""
_ON_LOST: Final = f"""
    {TASK} JOIN opscore.agents AS a ON a.agent_id = t.agent_id
    JOIN opscore.instances AS i ON i.agent_key = a.agent_key AND i.instance_id = t.instance_id
    WHERE {IS_OPEN} AND (i.state = '{AgentState.FINISHED}' OR a.deregistered_at IS NOT NULL
                         OR {lost(POSTGRES, 1, 2)})
    ORDER BY t.task_key LIMIT $3"""
_NEXT_READY: Final = f"""
    SELECT t.ready_at
    FROM opscore.tasks AS t JOIN opscore.sessions AS s ON s.session_key = t.session_key
    WHERE t.state = 'ready' AND t.ready_at > $1 AND {RUNS}
    ORDER BY t.ready_at LIMIT 1"""  # noqa: S608 - made of constants
_UNFINISHED: Final = f"""
    SELECT t.state, count(*) FROM opscore.tasks AS t WHERE {_UNENDED} GROUP BY t.state
    """  # noqa: S608 - made of constants

# In order, since the keys that are given to them say later in which order they were made.
_INSERT: Final = f"""
    INSERT INTO opscore.tasks (session_key, {", ".join(_TYPES)})
    SELECT session_key, {", ".join(_TYPES)}
    FROM unnest($1::bigint[], {arrays(2)}) WITH ORDINALITY
        AS new (session_key, {", ".join(_TYPES)}, place)
    ORDER BY place"""  # noqa: S608 - made of constants
