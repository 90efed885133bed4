"""Runs in SQLite: starting them, reading them whole, and letting go of old ones."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from opscore_middleware.core.refusals import deregistered_agent, unknown_agent
from opscore_middleware.core.runs.records import Run, StoredWorkflow
from opscore_middleware.core.runs.refusals import other_session, unknown_workflow
from opscore_middleware.core.runs.tasks import Task
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.stores.sqlite_tasks import insert_tasks, tasks_of_sessions

__all__ = [
    "Kept",
    "get_run",
    "kept_runs",
    "latest_session",
    "prune_runs",
    "session_keys_of_tasks",
    "start_run",
]


class Kept(NamedTuple):
    """A run as it is kept, and its session's key."""

    session_key: int
    run: Run


def start_run(connection: sqlite3.Connection, *, new: Run) -> tuple[Run, bool]:
    """Keep `core.runs.store.RunStore.start_run`'s promise within the open transaction."""
    if connection.execute(_IS_KNOWN, (new.session_id,)).fetchone():
        kept = get_run(connection, session_id=new.session_id)
        if kept is None:
            raise other_session(new.session_id)
        return kept, False
    agent = connection.execute(_AGENT, (new.agent_id,)).fetchone()
    if agent is None:
        raise unknown_agent(new.agent_id)
    agent_key, deregistered_at = agent
    if deregistered_at is not None:
        raise deregistered_agent(new.agent_id)
    workflow_id, version = new.workflow.workflow_id, new.workflow.version
    workflow = connection.execute(_WORKFLOW, (workflow_id, version)).fetchone()
    if workflow is None:
        raise unknown_workflow(workflow_id, version)
    session = (
        *(new.session_id, agent_key, workflow_id, workflow[0], new.state.value),
        *(new.result, new.error, new.initial_payload, new.traceparent),
        *(new.created_at, new.updated_at, new.ended_at),
    )
    session_key = connection.execute(_INSERT, session).lastrowid
    assert session_key is not None  # noqa: S101 - for the type checker: a row was inserted
    insert_tasks(connection, session_key, new.state, new.tasks.values())
    return new, True


def get_run(connection: sqlite3.Connection, *, session_id: str) -> Run | None:
    """Return a run; None for a session that runs no workflow, or is not known."""
    kept = kept_runs(connection, session_ids=[session_id]).get(session_id)
    return None if kept is None else kept.run


def kept_runs(
    connection: sqlite3.Connection,
    *,
    session_ids: Iterable[str] = (),
    session_keys: Iterable[int] = (),
) -> dict[str, Kept]:
    """Read runs whole, in three queries, by their sessions' ids; unknown ones are left out."""
    wanted = {"ids": json.dumps(list(session_ids)), "keys": json.dumps(list(session_keys))}
    rows = connection.execute(_RUNS, wanted)
    rows.row_factory = None  # tuples, since these are read by place
    kept = rows.fetchall()
    workflows = _workflows(connection, {workflow_key for _, workflow_key, *_ in kept})
    tasks: dict[str, dict[str, Task]] = {session_id: {} for _, _, session_id, *_ in kept}
    for task in tasks_of_sessions(connection, [session_key for session_key, *_ in kept]):
        tasks[task.session_id][task.task_id] = task
    runs = {}
    for session_key, workflow_key, session_id, agent_id, state, *rest in kept:
        result, error, initial_payload, traceparent, *times = rest
        runs[session_id] = Kept(
            session_key,
            Run(
                *(session_id, agent_id, _STATES[state], result, error, initial_payload),
                *(traceparent, workflows[workflow_key], *times, tasks[session_id]),
            ),
        )
    return runs


def session_keys_of_tasks(
    connection: sqlite3.Connection, task_ids: Collection[str]
) -> dict[str, int]:
    """Return the keys of the sessions that tasks belong to; unknown ones are left out."""
    return dict(connection.execute(_OF_TASKS, (json.dumps(list(task_ids)),)).fetchall())


def latest_session(connection: sqlite3.Connection, *, prefix: str) -> str | None:
    """Keep `core.runs.store.RunStore.latest_session`'s promise."""
    last: str | None
    (last,) = connection.execute(_LATEST, (prefix, f"{prefix}\U0010ffff")).fetchone()
    return last


def prune_runs(connection: sqlite3.Connection, *, before: int, limit: int) -> int:
    """Keep `core.runs.store.RunStore.prune_runs`'s promise within the open transaction."""
    old = connection.execute(_OLD, (before, limit)).fetchall()
    keys = json.dumps([session_key for (session_key,) in old])
    connection.execute(_PRUNE_TASKS, (keys,))
    return connection.execute(_PRUNE, (keys,)).rowcount


def _workflows(
    connection: sqlite3.Connection, workflow_keys: Collection[int]
) -> dict[int, StoredWorkflow]:
    rows = connection.execute(_WORKFLOWS, (json.dumps(list(workflow_keys)),)).fetchall()
    return {row[0]: StoredWorkflow(*row[1:]) for row in rows}


# Looked up, since making a member of an enumeration from its value takes longer.
_STATES: Final = {state.value: state for state in SessionState}

_IS_KNOWN: Final = "SELECT 1 FROM sessions WHERE session_id = ?"
_AGENT: Final = "SELECT agent_key, deregistered_at FROM agents WHERE agent_id = ?"
_WORKFLOW: Final = "SELECT workflow_key FROM workflows WHERE workflow_id = ? AND version = ?"
_WORKFLOWS: Final = f"""
    SELECT workflow_key, {", ".join(StoredWorkflow._fields)} FROM workflows
    WHERE workflow_key IN (SELECT value FROM json_each(?))"""  # noqa: S608 - made of constants
_INSERT: Final = """
    INSERT INTO sessions (session_id, agent_key, workflow_id, workflow_key, state, result, error,
                          initial_payload, traceparent, created_at, updated_at, ended_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_RUNS: Final = """
    SELECT s.session_key, s.workflow_key, s.session_id, a.agent_id, s.state, s.result, s.error,
           s.initial_payload, s.traceparent, s.created_at, s.updated_at, s.ended_at
    FROM (SELECT session_key FROM sessions
          WHERE session_id IN (SELECT value FROM json_each(:ids))
          UNION SELECT value FROM json_each(:keys)) AS wanted
    CROSS JOIN sessions AS s ON s.session_key = wanted.session_key
    CROSS JOIN agents AS a ON a.agent_key = s.agent_key
    WHERE s.workflow_key IS NOT NULL"""
_OF_TASKS: Final = """
    SELECT task_id, session_key FROM tasks WHERE task_id IN (SELECT value FROM json_each(?))"""

_LATEST: Final = "SELECT max(session_id) FROM sessions WHERE session_id >= ? AND session_id < ?"
_OLD: Final = "SELECT session_key FROM sessions WHERE ended_at < ? ORDER BY ended_at LIMIT ?"
_PRUNE_TASKS: Final = "DELETE FROM tasks WHERE session_key IN (SELECT value FROM json_each(?))"
_PRUNE: Final = "DELETE FROM sessions WHERE session_key IN (SELECT value FROM json_each(?))"
