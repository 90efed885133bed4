"""Claims in SQLite: ready tasks to available instances, and who may have which."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.runs.changes import Change
from opscore_middleware.core.runs.matching import Waiting, given, match
from opscore_middleware.core.runs.records import Claim
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.stores.sqlite_kept_runs import Kept
from opscore_middleware.stores.sqlite_recent_runs import RecentRuns
from opscore_middleware.stores.sqlite_sets import update
from opscore_middleware.stores.sqlite_turns import Turns
from opscore_middleware.stores.sqlite_vacancies import Vacancies, Vacancy

__all__ = ["candidates", "claim", "prefer_route"]


_STARTED: Final = SessionState.STARTED


def claim(
    connection: sqlite3.Connection,
    *,
    runs: RecentRuns,
    turns: Turns,
    limit: int,
    mark: Watermark | None,
    now: int,
) -> list[Claim]:
    """Keep `core.runs.store.RunStore.claim`'s promise within the transaction that is open."""
    queues = [queue for (queue,) in connection.execute(_QUEUES).fetchall()]
    if not queues:
        return []
    (wanted,) = connection.execute(_QUEUED, (limit,)).fetchone()
    vacancies = Vacancies(connection, turns, mark, now)
    if not vacancies.find(queues, wanted=wanted):
        return []
    queued = _queued(connection, vacancies.served, min(wanted, len(vacancies.slots)), now)
    vacancies.find_of({one.waiting.session_agent for one in queued.values()})
    matches = match((one.waiting for one in queued.values()), vacancies.slots, limit=wanted)
    if not matches:
        return []
    gifts = [_Gift(queued[task.task_key], vacancies.of(slot)) for task, slot in matches]
    claims = _dispatch(connection, runs, gifts, now)
    for gift in gifts:
        turns.took(gift.vacancy.instance_key, gift.vacancy.slot.capabilities)
    return claims


def prefer_route(connection: sqlite3.Connection, *, agent_id: str, route: Route) -> None:
    """Keep `core.runs.store.RunStore.prefer_route`'s promise within the open transaction."""
    connection.execute("UPDATE agents SET route = ? WHERE agent_id = ?", (route, agent_id))


def candidates(
    connection: sqlite3.Connection, *, pinned: str | None, capability: str | None
) -> list[str]:
    """Keep `core.runs.store.RunStore.candidates`'s promise."""
    if pinned is not None:
        rows = connection.execute(_PINNED, (pinned,))
    else:
        rows = connection.execute(_CAPABLE, (capability,))
    return [agent_id for (agent_id,) in rows.fetchall()]


class _Queued(NamedTuple):
    """A task that may be claimed, and where it is found."""

    task_id: str
    session_id: str
    waiting: Waiting


class _Gift(NamedTuple):
    """A task, and who gets it."""

    queued: _Queued
    vacancy: Vacancy


def _queued(
    connection: sqlite3.Connection, queues: Collection[str], limit: int, now: int
) -> dict[int, _Queued]:
    """Return what goes first of each queue and priority, as much as could be claimed at most."""
    values = {"queues": json.dumps(list(queues)), "now": now, "limit": limit}
    rows = connection.execute(_WAITING, values)
    rows.row_factory = None  # tuples, since these are read by place
    return {row[2]: _Queued(row[0], row[1], Waiting._make(row[2:])) for row in rows.fetchall()}


def _dispatch(
    connection: sqlite3.Connection, runs: RecentRuns, gifts: Sequence[_Gift], now: int
) -> list[Claim]:
    kept = runs.find({gift.queued.session_id for gift in gifts})
    changed: dict[str, list[Change]] = {}
    claims: list[Claim] = []
    rows: list[tuple[object, ...]] = []
    for (task_id, session_id, waiting), (slot, _, endpoint) in gifts:
        run, route = kept[session_id].run, endpoint.preferred
        before = run.tasks[task_id]
        task = given(before, slot, route=route, now=now)
        changed.setdefault(session_id, []).append(Change(before, task))
        claims.append(Claim(task, endpoint, run.workflow.workflow_id, run.traceparent))
        sent_by = None if route is None else route.value
        rows.append(
            (
                *(waiting.task_key, "dispatched", None, task.attempt, now, *slot[:2], sent_by),
                *(task.deadline_at, False, False),
            )
        )
    update(connection, "tasks", _DISPATCHED, rows)
    connection.executemany(_TASKED, [(*gift.vacancy.slot[:2], now) for gift in gifts])
    fresh = [one for one in changed if kept[one].run.state is _STARTED]
    if fresh:
        connection.execute(_RUN, (now, json.dumps([kept[one].session_key for one in fresh])))
    for session_id, tasks in changed.items():
        runs.put(_running(kept[session_id], tasks, now), tasks)
    return claims


def _running(kept: Kept, changed: Sequence[Change], now: int) -> Kept:
    tasks = kept.run.tasks | {task.task_id: task for _, task in changed}
    if kept.run.state is _STARTED:
        run = kept.run._replace(tasks=tasks, state=SessionState.RUNNING, updated_at=now)
    else:
        run = kept.run._replace(tasks=tasks)
    return Kept(kept.session_key, run)


# From queue to queue, so that as many rows are looked at as there are queues with something in.
_QUEUES: Final = """
    WITH RECURSIVE queues (queue) AS (
        SELECT min(queue) FROM tasks WHERE queue IS NOT NULL
        UNION ALL
        SELECT (SELECT min(queue) FROM tasks WHERE queue > queues.queue)
        FROM queues WHERE queues.queue IS NOT NULL)
    SELECT queue FROM queues WHERE queue IS NOT NULL"""

# As many as matter: a claim takes no more than there are.
_QUEUED: Final = """
    SELECT count(*) FROM (SELECT 1 FROM tasks WHERE queue IS NOT NULL LIMIT ?)"""

# The first few of each queue and priority, which the index holds in the order in which they go.
_WAITING: Final = """
    WITH RECURSIVE lanes (queue, priority) AS (
        SELECT value, (SELECT max(priority) FROM tasks WHERE queue = value)
        FROM json_each(:queues)
        UNION ALL
        SELECT queue, (SELECT max(priority) FROM tasks
                       WHERE queue = lanes.queue AND priority < lanes.priority)
        FROM lanes WHERE priority IS NOT NULL)
    SELECT t.task_id, s.session_id, t.task_key, t.pinned, t.capability, t.priority, t.ready_at,
           t.created_at, a.agent_id
    FROM lanes
    CROSS JOIN tasks AS t ON t.task_key IN (
        SELECT first.task_key FROM tasks AS first
        WHERE first.queue = lanes.queue AND first.priority = lanes.priority
          AND first.ready_at <= :now
        ORDER BY first.ready_at, first.created_at, first.task_key LIMIT :limit)
    CROSS JOIN sessions AS s ON s.session_key = t.session_key
    CROSS JOIN agents AS a ON a.agent_key = s.agent_key
    WHERE lanes.priority IS NOT NULL"""

_DISPATCHED: Final = (
    *("task_key", "state", "queue", "attempt", "dispatched_at", "agent_id", "instance_id"),
    *("route", "deadline_at", "rerouted", "stopped"),
)
_TASKED: Final = """
    INSERT INTO slots (agent_id, instance_id, tasked_at) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET tasked_at = excluded.tasked_at, stopped = NULL, stopped_at = NULL"""
_RUN: Final = """
    UPDATE sessions SET state = 'running', updated_at = ?
    WHERE session_key IN (SELECT value FROM json_each(?))"""
_PINNED: Final = "SELECT agent_id FROM agents WHERE agent_id = ? AND deregistered_at IS NULL"
_CAPABLE: Final = """
    SELECT a.agent_id FROM agent_capabilities AS c JOIN agents AS a USING (agent_key)
    WHERE c.capability = ? AND a.deregistered_at IS NULL LIMIT 1000"""
