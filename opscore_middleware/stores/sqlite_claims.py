"""Claims in SQLite: ready tasks to available instances, and how agents are reached."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Final

from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.records import InstanceRecord
from opscore_middleware.core.runs.availability import is_available
from opscore_middleware.core.runs.matching import Match, Slot, Waiting, match
from opscore_middleware.core.runs.records import Claim, Endpoint
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.rows import NO_INSTANCE, PRESENT
from opscore_middleware.stores.sqlite_tasks import IS_OPEN, OPEN_TASKS, tasks_with_keys

__all__ = ["candidates", "claim", "endpoint", "prefer_route"]

_AGENT: Final = "agent "
_CAPABILITY: Final = "capability "


def claim(
    connection: sqlite3.Connection, *, limit: int, mark: Watermark | None, now: int
) -> list[Claim]:
    """Keep `core.runs.store.RunStore.claim`'s promise within the transaction that is open."""
    queues = [queue for (queue,) in connection.execute(_QUEUES).fetchall()]
    if not queues:
        return []
    vacancies = _Vacancies(connection, mark, now)
    if not vacancies.find(queues, limit=limit):
        return []
    waiting = _waiting(connection, vacancies.served, min(limit, len(vacancies.slots)), now)
    vacancies.find_of({task.session_agent for task in waiting})
    matches = match(waiting, vacancies.slots, limit=limit)
    if not matches:
        return []
    return _dispatch(connection, matches, [vacancies.endpoint(slot) for _, slot in matches], now)


def endpoint(connection: sqlite3.Connection, *, agent_id: str, instance_id: str) -> Endpoint | None:
    """Keep `core.runs.store.RunStore.endpoint`'s promise."""
    row = connection.execute(_ENDPOINT, (agent_id, instance_id)).fetchone()
    return None if row is None else _endpoint(row)


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


class _Vacancies:
    """The available instances with a free slot, as many as a claim can need."""

    def __init__(self, connection: sqlite3.Connection, mark: Watermark | None, now: int) -> None:
        self._connection = connection
        self._mark = mark
        self._now = now
        self._found: dict[tuple[str, str], tuple[Slot, sqlite3.Row]] = {}
        self._capabilities: dict[str, frozenset[str]] = {}
        self.served: set[str] = set()
        """The queues that what was found could serve."""

    @property
    def slots(self) -> list[Slot]:
        return [slot for slot, _ in self._found.values()]

    def endpoint(self, slot: Slot) -> Endpoint:
        return _endpoint(self._found[slot[:2]][1])

    def find(self, queues: Collection[str], *, limit: int) -> bool:
        """Look for slots that could serve these queues, those longest without a task first; tell
        whether there is any.

        A claim takes at most `limit`, so with as many for a capability it lacks none.
        """
        self.served |= {_AGENT + slot.agent_id for slot in self.find_of(_named(queues, _AGENT))}
        for capability in _named(queues, _CAPABILITY):
            with closing(self._look([], [capability])) as slots:
                if list(islice(slots, limit)):
                    self.served.add(_CAPABILITY + capability)
        return bool(self._found)

    def find_of(self, agent_ids: Collection[str]) -> list[Slot]:
        """Look for slots of these agents, and return them."""
        return list(self._look(list(agent_ids), [])) if agent_ids else []

    def _look(
        self, agent_ids: Sequence[str], capabilities: Sequence[str]
    ) -> Generator[Slot, None, None]:
        wanted = {"agents": json.dumps(agent_ids), "capabilities": json.dumps(capabilities)}
        with closing(self._connection.execute(_CANDIDATES, wanted)) as rows:
            for row in rows:
                slot_id = row["agent_id"], row["instance_id"]
                if slot_id not in self._found:
                    instance = InstanceRecord._make(row[: len(InstanceRecord._fields)])
                    if not is_available(instance, self._mark, self._now):
                        continue
                    slot = Slot(*slot_id, self._can(row["capabilities"]), row["tasked_at"])
                    self._found[slot_id] = slot, row
                yield self._found[slot_id][0]

    def _can(self, text: str) -> Collection[str]:
        # Agents are many, what they can do is not.
        if text not in self._capabilities:
            self._capabilities[text] = frozenset(json.loads(text))
        return self._capabilities[text]


def _named(queues: Collection[str], kind: str) -> list[str]:
    return [queue.removeprefix(kind) for queue in queues if queue.startswith(kind)]


def _waiting(
    connection: sqlite3.Connection, queues: Collection[str], limit: int, now: int
) -> list[Waiting]:
    """Return what goes first of each queue and priority, as much as could be claimed at most."""
    values = {"queues": json.dumps(list(queues)), "now": now, "limit": limit}
    return [Waiting(*row) for row in connection.execute(_WAITING, values).fetchall()]


def _dispatch(
    connection: sqlite3.Connection,
    matches: Sequence[Match],
    endpoints: Sequence[Endpoint],
    now: int,
) -> list[Claim]:
    connection.executemany(
        _DISPATCH,
        [
            (
                *(now, slot.agent_id, slot.instance_id),
                None if endpoint.preferred is None else endpoint.preferred.value,
                task.task_key,
            )
            for (task, slot), endpoint in zip(matches, endpoints, strict=True)
        ],
    )
    connection.executemany(_TASKED, [(*slot[:2], now) for _, slot in matches])
    keys = [task.task_key for task, _ in matches]
    connection.execute(_RUN, (now, json.dumps(keys)))
    of_sessions = {row[0]: row[1:] for row in connection.execute(_SESSIONS, (json.dumps(keys),))}
    return [
        Claim(task, endpoint, *of_sessions[task.session_id])
        for task, endpoint in zip(tasks_with_keys(connection, keys), endpoints, strict=True)
    ]


def _endpoint(row: Any) -> Endpoint:
    route = row["route"]
    return Endpoint(
        row["agent_id"],
        row["instance_id"],
        row["contact_endpoint"] or row["agent_endpoint"],
        None if route is None else Route(route),
    )


# --- what is claimed -----------------------------------------------------------------------------

# From queue to queue, so that as many rows are looked at as there are queues with something in.
_QUEUES: Final = """
    WITH RECURSIVE queues (queue) AS (
        SELECT min(queue) FROM tasks WHERE queue IS NOT NULL
        UNION ALL
        SELECT (SELECT min(queue) FROM tasks WHERE queue > queues.queue)
        FROM queues WHERE queues.queue IS NOT NULL)
    SELECT queue FROM queues WHERE queue IS NOT NULL"""

# The first few of each queue and priority, which the index holds in the order in which they go.
_WAITING: Final = """
    WITH RECURSIVE lanes (queue, priority) AS (
        SELECT value, (SELECT max(priority) FROM tasks WHERE queue = value)
        FROM json_each(:queues)
        UNION ALL
        SELECT queue, (SELECT max(priority) FROM tasks
                       WHERE queue = lanes.queue AND priority < lanes.priority)
        FROM lanes WHERE priority IS NOT NULL)
    SELECT t.task_key, t.pinned, t.capability, t.priority, t.ready_at, t.created_at, a.agent_id
    FROM lanes
    CROSS JOIN tasks AS t ON t.task_key IN (
        SELECT first.task_key FROM tasks AS first
        WHERE first.queue = lanes.queue AND first.priority = lanes.priority
          AND first.ready_at <= :now
        ORDER BY first.ready_at, first.created_at, first.task_key LIMIT :limit)
    CROSS JOIN sessions AS s ON s.session_key = t.session_key
    CROSS JOIN agents AS a ON a.agent_key = s.agent_key
    WHERE lanes.priority IS NOT NULL"""

_DISPATCH: Final = """
    UPDATE tasks SET state = 'dispatched', queue = NULL, attempt = attempt + 1, dispatched_at = ?1,
                     agent_id = ?2, instance_id = ?3, route = ?4, rerouted = 0, stopped = 0,
                     deadline_at = min(?1 + start_within, ifnull(close_by, ?1 + start_within))
    WHERE task_key = ?5"""
_TASKED: Final = """
    INSERT INTO slots (agent_id, instance_id, tasked_at) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET tasked_at = excluded.tasked_at, stopped = NULL, stopped_at = NULL"""
# By their keys, since there may be many that have only just started.
_RUN: Final = """
    UPDATE sessions SET state = 'running', updated_at = ?
    WHERE +state = 'started' AND session_key IN (
        SELECT session_key FROM tasks WHERE task_key IN (SELECT value FROM json_each(?)))"""
_SESSIONS: Final = """
    SELECT session_id, workflow_id, traceparent FROM sessions WHERE session_key IN (
        SELECT session_key FROM tasks WHERE task_key IN (SELECT value FROM json_each(?)))"""

# --- who may have it -----------------------------------------------------------------------------

_ENDPOINT_OF: Final = "a.agent_id, a.route, a.contact_endpoint AS agent_endpoint"
# Of one that is idle nobody asks for its details, which may be long, and would be sorted with it.
_INSTANCE: Final = ", ".join(
    f"CASE WHEN i.state = '{AgentState.ERROR}' THEN i.details END AS details"
    if field == "details"
    else f"i.{field}"
    for field in InstanceRecord._fields
)
_CANDIDATES: Final = f"""
    WITH able (agent_key) AS (
        SELECT agent_key FROM agent_capabilities
        WHERE capability IN (SELECT value FROM json_each(:capabilities))
        UNION
        SELECT agent_key FROM agents WHERE agent_id IN (SELECT value FROM json_each(:agents)))
    SELECT {_INSTANCE}, {_ENDPOINT_OF}, a.capabilities, slots.tasked_at
    FROM able
    CROSS JOIN agents AS a ON a.agent_key = able.agent_key
    CROSS JOIN instances AS i ON i.agent_key = able.agent_key
    LEFT JOIN slots ON slots.agent_id = a.agent_id AND slots.instance_id = i.instance_id
    WHERE a.deregistered_at IS NULL AND i.state IN ('{AgentState.IDLE}', '{AgentState.ERROR}')
      AND {PRESENT}
      AND (a.route = '{Route.AGENTKIT}' OR coalesce(i.contact_endpoint, a.contact_endpoint) <> '')
      AND (i.instance_id <> '{NO_INSTANCE}' OR NOT EXISTS (
          SELECT 1 FROM instances AS real WHERE real.agent_key = i.agent_key
             AND real.instance_id <> '{NO_INSTANCE}' AND real.state <> '{AgentState.UNKNOWN}'))
      AND NOT EXISTS (
          SELECT 1 FROM {OPEN_TASKS}
          WHERE t.agent_id = a.agent_id AND t.instance_id = i.instance_id AND {IS_OPEN})
    ORDER BY slots.tasked_at, i.instance_key"""  # noqa: S608 - made of constants
_ENDPOINT: Final = f"""
    SELECT i.instance_id, i.contact_endpoint, {_ENDPOINT_OF}
    FROM agents AS a JOIN instances AS i USING (agent_key)
    WHERE a.agent_id = ? AND i.instance_id = ?"""  # noqa: S608 - made of constants
_PINNED: Final = "SELECT agent_id FROM agents WHERE agent_id = ? AND deregistered_at IS NULL"
_CAPABLE: Final = """
    SELECT a.agent_id FROM agent_capabilities AS c JOIN agents AS a USING (agent_key)
    WHERE c.capability = ? AND a.deregistered_at IS NULL LIMIT 1000"""
