"""Reading runs from SQLite, whole and many at once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from opscore_middleware.core.runs.records import Run, StoredWorkflow
from opscore_middleware.core.runs.tasks import Task
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.stores.sqlite_tasks import tasks_of_sessions

__all__ = ["Kept", "kept_runs", "session_ids_of_tasks"]


class Kept(NamedTuple):
    """A run as it is kept, and its session's key."""

    session_key: int
    run: Run


def kept_runs(connection: sqlite3.Connection, *, session_ids: Iterable[str]) -> dict[str, Kept]:
    """Read runs whole, in three queries, by their sessions' ids; unknown ones are left out."""
    rows = connection.execute(_RUNS, (json.dumps(list(session_ids)),))
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


def session_ids_of_tasks(connection: sqlite3.Connection, task_ids: Iterable[str]) -> dict[str, str]:
    """Return the ids of the sessions that tasks belong to; unknown ones are left out."""
    return dict(connection.execute(_OF_TASKS, (json.dumps(list(task_ids)),)).fetchall())


def _workflows(
    connection: sqlite3.Connection, workflow_keys: Collection[int]
) -> dict[int, StoredWorkflow]:
    rows = connection.execute(_WORKFLOWS, (json.dumps(list(workflow_keys)),)).fetchall()
    return {row[0]: StoredWorkflow(*row[1:]) for row in rows}


# Looked up, since making a member of an enumeration from its value takes longer.
_STATES: Final = {state.value: state for state in SessionState}

_WORKFLOWS: Final = f"""
    SELECT workflow_key, {", ".join(StoredWorkflow._fields)} FROM workflows
    WHERE workflow_key IN (SELECT value FROM json_each(?))"""  # noqa: S608 - made of constants
_RUNS: Final = """
    SELECT s.session_key, s.workflow_key, s.session_id, a.agent_id, s.state, s.result, s.error,
           s.initial_payload, s.traceparent, s.created_at, s.updated_at, s.ended_at
    FROM json_each(?) AS wanted
    CROSS JOIN sessions AS s ON s.session_id = wanted.value
    CROSS JOIN agents AS a ON a.agent_key = s.agent_key
    WHERE s.workflow_key IS NOT NULL"""
_OF_TASKS: Final = """
    SELECT t.task_id, s.session_id
    FROM json_each(?) AS wanted
    CROSS JOIN tasks AS t ON t.task_id = wanted.value
    CROSS JOIN sessions AS s ON s.session_key = t.session_key"""
