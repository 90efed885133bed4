"""Runs in PostgreSQL: read, locked to be changed, and let go of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import asyncpg

from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.tasks import Task
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_large_runs import LargeRuns
from opscore_middleware.stores.postgres_reports import HURRY
from opscore_middleware.stores.postgres_tasks import tasks_of
from opscore_middleware.stores.postgres_workflows import Definitions

__all__ = ["get_run", "latest_session", "lock_runs", "prune_runs", "read_run"]

_STATES: Final = {state.value: state for state in SessionState}


async def get_run(
    connection: Connection, *, session_id: str, definitions: Definitions
) -> Run | None:
    """Keep `core.runs.store.RunStore.get_run`'s promise."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await read_run(connection, session_id, definitions)


async def lock_runs(
    connection: Connection,
    *,
    session_ids: Collection[str] = (),
    task_ids: Collection[str] = (),
    session_keys: Collection[int] = (),
    definitions: Definitions,
    large: LargeRuns,
) -> dict[int, Run]:
    """Return runs by their keys, with nobody else to change them to the end of the transaction.

    Whoever locks several does it here, and so in one order.
    """
    rows = await connection.fetch(_LOCK, list(session_ids), list(task_ids), list(session_keys))
    # Their tasks are read by statements of their own, which see what the locks were waited for.
    keys = {row["session_key"]: row["session_id"] for row in rows}
    tasks = await _tasks(connection, {key: keys[key] for key in keys if key not in large})
    for key, session_id in keys.items():
        if key in large:
            tasks[session_id] = await large.read(connection, key)
        else:
            large.note(key, len(tasks[session_id]))
    return await _runs(connection, rows, tasks, definitions)


async def latest_session(connection: Connection, *, prefix: str) -> str | None:
    """Keep `core.runs.store.RunStore.latest_session`'s promise."""
    session_id: str | None = await connection.fetchval(_LATEST, prefix)
    return session_id


async def prune_runs(connection: Connection, *, before: int, limit: int) -> int:
    """Keep `core.runs.store.RunStore.prune_runs`'s promise within the transaction that is open."""
    await connection.execute(HURRY)
    ended = [row["session_key"] for row in await connection.fetch(_ENDED, before, limit)]
    if ended:
        await connection.execute(_DELETE_TASKS, ended)
        await connection.execute(_DELETE, ended)
    return len(ended)


async def read_run(connection: Connection, session_id: str, definitions: Definitions) -> Run | None:
    """Return a run, read in several statements; None for a session that runs no workflow."""
    rows = await connection.fetch(f"{_SELECT} AND s.session_id = $1", session_id)
    tasks = await _tasks(connection, {row["session_key"]: row["session_id"] for row in rows})
    runs = await _runs(connection, rows, tasks, definitions)
    return next(iter(runs.values()), None)


async def _tasks(connection: Connection, sessions: Mapping[int, str]) -> dict[str, dict[str, Task]]:
    """Return the tasks of sessions, whose ids come by their keys, by the ids of both."""
    tasks: dict[str, dict[str, Task]] = {session_id: {} for session_id in sessions.values()}
    if sessions:
        for task in await tasks_of(connection, list(sessions)):
            tasks[task.session_id][task.task_id] = task
    return tasks


async def _runs(
    connection: Connection,
    rows: Collection[asyncpg.Record],
    tasks: Mapping[str, dict[str, Task]],
    definitions: Definitions,
) -> dict[int, Run]:
    workflows = await definitions.of(connection, {row["workflow_key"] for row in rows})
    return {
        row["session_key"]: Run(
            session_id=row["session_id"],
            agent_id=row["agent_id"],
            state=_STATES[row["state"]],
            result=row["result"],
            error=row["error"],
            initial_payload=row["initial_payload"],
            traceparent=row["traceparent"],
            workflow=workflows[row["workflow_key"]],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            ended_at=row["ended_at"],
            tasks=tasks[row["session_id"]],
        )
        for row in rows
    }


_SELECT: Final = """
    SELECT s.session_key, s.session_id, a.agent_id, s.state, s.result, s.error, s.initial_payload,
           s.traceparent, s.workflow_key, s.created_at, s.updated_at, s.ended_at
    FROM opscore.sessions AS s JOIN opscore.agents AS a USING (agent_key)
    WHERE s.workflow_key IS NOT NULL"""
_LOCK: Final = f"""
    {_SELECT} AND s.session_key = ANY(ARRAY(
        SELECT session_key FROM opscore.sessions WHERE session_id = ANY($1::text[])
        UNION SELECT session_key FROM opscore.tasks WHERE task_id = ANY($2::text[])
        UNION SELECT unnest($3::bigint[])))
    ORDER BY s.session_key FOR UPDATE OF s"""  # noqa: S608 - made of constants

# Up to the last of all characters, so that the index of the ids is looked through from its end.
_LATEST: Final = """
    SELECT session_id FROM opscore.sessions
    WHERE session_id >= $1 AND session_id < $1 || chr(1114111)
    ORDER BY session_id DESC LIMIT 1"""

# One that somebody changes just now is left for the next time. The latest that a schedule has
# started says up to when it was followed.
_ENDED: Final = """
    SELECT session_key FROM opscore.sessions AS old
    WHERE ended_at < $1 AND session_id IS DISTINCT FROM (
        SELECT max(session_id) FROM opscore.sessions
        WHERE session_id >= (old.workflow_id || '@') COLLATE "C"
          AND session_id < (old.workflow_id || '@' || chr(1114111)) COLLATE "C")
    ORDER BY ended_at LIMIT $2 FOR UPDATE OF old SKIP LOCKED"""
_DELETE_TASKS: Final = "DELETE FROM opscore.tasks WHERE session_key = ANY($1::bigint[])"
_DELETE: Final = "DELETE FROM opscore.sessions WHERE session_key = ANY($1::bigint[])"
