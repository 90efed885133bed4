"""Runs in SQLite: starting them, finding them, and letting go of old ones."""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from opscore_middleware.core.refusals import deregistered_agent, unknown_agent
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.refusals import other_session, unknown_workflow
from opscore_middleware.stores.sqlite_kept_runs import Kept, kept_runs
from opscore_middleware.stores.sqlite_recent_runs import RecentRuns
from opscore_middleware.stores.sqlite_tasks import insert_tasks

__all__ = [
    "get_run",
    "latest_session",
    "prune_runs",
    "start_run",
]


def start_run(connection: sqlite3.Connection, *, runs: RecentRuns, new: Run) -> tuple[Run, bool]:
    """Keep `core.runs.store.RunStore.start_run`'s promise within the open transaction."""
    workflow_id, version = new.workflow.workflow_id, new.workflow.version
    values = (new.session_id, new.agent_id, workflow_id, version)
    is_known, agent, workflow_key = connection.execute(_FOUND, values).fetchone()
    if is_known:
        kept = get_run(connection, session_id=new.session_id)
        if kept is None:
            raise other_session(new.session_id)
        return kept, False
    if agent is None:
        raise unknown_agent(new.agent_id)
    if agent < 0:
        raise deregistered_agent(new.agent_id)
    if workflow_key is None:
        raise unknown_workflow(workflow_id, version)
    session = (
        *(new.session_id, agent, workflow_id, workflow_key, new.state.value),
        *(new.result, new.error, new.initial_payload, new.traceparent),
        *(new.created_at, new.updated_at, new.ended_at),
    )
    session_key = connection.execute(_INSERT, session).lastrowid
    assert session_key is not None  # noqa: S101 - for the type checker: a row was inserted
    insert_tasks(connection, session_key, new.state, new.tasks.values())
    runs.put(Kept(session_key, new))
    return new, True


def get_run(connection: sqlite3.Connection, *, session_id: str) -> Run | None:
    """Return a run; None for a session that runs no workflow, or is not known."""
    kept = kept_runs(connection, session_ids=[session_id]).get(session_id)
    return None if kept is None else kept.run


def latest_session(connection: sqlite3.Connection, *, prefix: str) -> str | None:
    """Keep `core.runs.store.RunStore.latest_session`'s promise."""
    last: str | None
    (last,) = connection.execute(_LATEST, (prefix, f"{prefix}\U0010ffff")).fetchone()
    return last


def prune_runs(connection: sqlite3.Connection, *, runs: RecentRuns, before: int, limit: int) -> int:
    """Keep `core.runs.store.RunStore.prune_runs`'s promise within the open transaction."""
    old = connection.execute(_OLD, (before, limit)).fetchall()
    for _, session_id in old:
        runs.drop(session_id)
    keys = json.dumps([session_key for session_key, _ in old])
    connection.execute(_PRUNE_TASKS, (keys,))
    return connection.execute(_PRUNE, (keys,)).rowcount


# Of an agent that is taken out, the key is below zero.
_FOUND: Final = """
    SELECT EXISTS (SELECT 1 FROM sessions WHERE session_id = ?1),
           (SELECT CASE WHEN deregistered_at IS NULL THEN agent_key ELSE -agent_key END
            FROM agents WHERE agent_id = ?2),
           (SELECT workflow_key FROM workflows WHERE workflow_id = ?3 AND version = ?4)"""
_INSERT: Final = """
    INSERT INTO sessions (session_id, agent_key, workflow_id, workflow_key, state, result, error,
                          initial_payload, traceparent, created_at, updated_at, ended_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_LATEST: Final = "SELECT max(session_id) FROM sessions WHERE session_id >= ? AND session_id < ?"
# The latest that a schedule has started says up to when it was followed.
_OLD: Final = """
    SELECT session_key, session_id FROM sessions AS old
    WHERE ended_at < ? AND session_id IS NOT (
        SELECT max(session_id) FROM sessions
        WHERE session_id >= old.workflow_id || '@'
          AND session_id < old.workflow_id || '@' || char(1114111))
    ORDER BY ended_at LIMIT ?"""
_PRUNE_TASKS: Final = "DELETE FROM tasks WHERE session_key IN (SELECT value FROM json_each(?))"
_PRUNE: Final = "DELETE FROM sessions WHERE session_key IN (SELECT value FROM json_each(?))"
