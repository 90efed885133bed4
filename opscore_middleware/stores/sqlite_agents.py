"""Agents in SQLite: registering, taking out, reading with their instances and their history."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from math import isqrt
from typing import Any, Final, NamedTuple

from opscore_middleware.core.models import Order, Registration, Transition
from opscore_middleware.core.records import AgentRecord, Once, ReportOutcome
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.states import AgentState
from opscore_middleware.core.store import Registered
from opscore_middleware.stores.rows import (
    PRESENT,
    agent_records,
    stored_json,
    stored_span,
    transition,
)

__all__ = ["deregister", "get_agent", "history", "list_agents", "register"]


def register(
    connection: sqlite3.Connection,
    *,
    registration: Registration,
    new_id: str,
    now: int,
    route: Route | None,
    once: Once | None,
) -> Registered | None:
    """Keep `core.store.Store.register`'s promise within the transaction that is open."""
    if not _is_first(connection, once, now):
        return None
    known = _known(connection, registration)
    values: dict[str, Any] = {
        "agent_key": known["agent_key"] if known else None,
        "agent_id": registration.agent_id or new_id,
        "agent_name": registration.agent_name,
        "version": registration.version,
        "capabilities": stored_json(registration.capabilities),
        "contact_endpoint": registration.contact_endpoint,
        "of_instance": registration.instance_id is not None,
        "metadata": stored_json(registration.metadata),
        "deregister_after": stored_span(registration.deregister_after),
        "route": route,
        "now": now,
    }
    if known:
        connection.execute(_UPDATE_AGENT, values)
        agent_id = known["agent_id"]
    else:
        values["agent_key"] = connection.execute(_INSERT_AGENT, values).lastrowid
        agent_id = values["agent_id"]
    if registration.instance_id is not None:
        connection.execute(
            _REGISTER_INSTANCE,
            {**values, "instance_id": registration.instance_id, "unknown": AgentState.UNKNOWN},
        )
    record = get_agent(connection, agent_id=agent_id)
    assert record is not None  # noqa: S101 - for the type checker: it was written above
    return Registered(record, created=known is None)


def deregister(
    connection: sqlite3.Connection, *, agent_id: str, now: int, once: Once | None
) -> ReportOutcome | None:
    """Keep `core.store.Store.deregister`'s promise within the transaction that is open."""
    if not _is_first(connection, once, now):
        return None
    if connection.execute(_DEREGISTER, (now, agent_id)).rowcount:
        return ReportOutcome.ACCEPTED
    known = connection.execute(_BY_ID, (agent_id,)).fetchone()
    return ReportOutcome.DEREGISTERED if known else ReportOutcome.UNKNOWN_AGENT


def get_agent(connection: sqlite3.Connection, *, agent_id: str) -> AgentRecord | None:
    """Return an agent with its instances, deregistered or not."""
    agents = connection.execute(_BY_ID, (agent_id,)).fetchall()
    return next(iter(_with_instances(connection, agents)), None)


def list_agents(
    connection: sqlite3.Connection,
    *,
    name: str | None,
    capability: str | None,
    after: tuple[str, str] | None,
    limit: int,
    state: str | None,
) -> list[AgentRecord]:
    """List agents that are not deregistered, by name and id."""
    values: dict[str, Any] = {
        "name": name,
        "capability": capability,
        "state": state,
        "limit": limit,
    }
    if after is not None:
        values["after_name"], values["after_id"] = after
    filters = [
        kind
        for kind, value in ((_WITH_CAPABILITY, capability), (_IN_STATE, state))
        if value is not None
    ]
    # From those who are few, sorted; where they are many, along the names until enough are found.
    # As many as the page times all over those that there are have then to be looked at.
    (agents_in_all,) = connection.execute(_IN_ALL).fetchone()
    values["few"] = few = isqrt(limit * (agents_in_all or 0) // 2)
    rare = [
        kind for kind in filters if connection.execute(kind.counted, values).fetchone()[0] < few
    ]
    conditions = [kind.holds for kind in filters if kind not in rare[:1]]
    if name is not None:
        conditions.append("agents.agent_name = :name")
    if after is not None:
        conditions.append("(agents.agent_name, agents.agent_id) > (:after_name, :after_id)")
    source = f"({rare[0].keys}) AS wanted CROSS JOIN agents USING (agent_key)" if rare else _ALL
    agents = connection.execute(
        f"SELECT agents.* FROM {source}"  # noqa: S608 - made of constants
        f" WHERE {' AND '.join(['agents.deregistered_at IS NULL', *conditions])}"
        " ORDER BY agents.agent_name, agents.agent_id LIMIT :limit",
        values,
    ).fetchall()
    return _with_instances(connection, agents)


def history(
    connection: sqlite3.Connection, *, agent_id: str, order: Order, after: int | None, limit: int
) -> list[Transition]:
    """List an agent's transitions by event id."""
    query, start = (_HISTORY_UP, 0) if order is Order.ASC else (_HISTORY_DOWN, _LAST_EVENT)
    rows = connection.execute(query, (agent_id, start if after is None else after, limit))
    return [transition(row, agent_id=agent_id) for row in rows.fetchall()]


def _is_first(connection: sqlite3.Connection, once: Once | None, now: int) -> bool:
    if once is None:
        return True
    connection.execute("DELETE FROM done_once WHERE until < ?", (now,))
    return bool(connection.execute(_FIRST, once).rowcount)


def _known(connection: sqlite3.Connection, registration: Registration) -> sqlite3.Row | None:
    if registration.agent_id is not None:
        query, value = _BY_ID, registration.agent_id
    else:
        query, value = _BY_NAME, registration.agent_name
    row: sqlite3.Row | None = connection.execute(query, (value,)).fetchone()
    return row


def _with_instances(
    connection: sqlite3.Connection, agents: Sequence[sqlite3.Row]
) -> list[AgentRecord]:
    keys = json.dumps([agent["agent_key"] for agent in agents])
    return agent_records(agents, connection.execute(_INSTANCES, (keys,)).fetchall())


_FIRST: Final = "INSERT INTO done_once (key, until) VALUES (?, ?) ON CONFLICT DO NOTHING"

_BY_ID: Final = "SELECT * FROM agents WHERE agent_id = ?"
_BY_NAME: Final = """
    SELECT * FROM agents WHERE agent_name = ? ORDER BY updated_at DESC, agent_key DESC LIMIT 1"""

_INSERT_AGENT: Final = """
    INSERT INTO agents (agent_id, agent_name, version, capabilities, contact_endpoint, metadata,
                        deregister_after, route, registered_at, updated_at)
    VALUES (:agent_id, :agent_name, :version, :capabilities, :contact_endpoint, :metadata,
            :deregister_after, :route, :now, :now)"""
_UPDATE_AGENT: Final = """
    UPDATE agents SET
        agent_name = :agent_name,
        version = :version,
        capabilities = :capabilities,
        contact_endpoint = CASE WHEN :of_instance
            THEN ifnull(contact_endpoint, :contact_endpoint)
            ELSE ifnull(:contact_endpoint, contact_endpoint) END,
        metadata = :metadata,
        deregister_after = :deregister_after,
        route = ifnull(:route, route),
        updated_at = :now,
        deregistered_at = NULL
    WHERE agent_key = :agent_key"""
# Not a registration, so `updated_at` stays: it says who was registered last under a name.
_DEREGISTER: Final = """
    UPDATE agents SET deregistered_at = ? WHERE agent_id = ? AND deregistered_at IS NULL"""
# An effective_at of 0 lets any first report be the newer one.
_REGISTER_INSTANCE: Final = """
    INSERT INTO instances (agent_key, instance_id, state, timestamp, effective_at, last_seen_at,
                           contact_endpoint)
    VALUES (:agent_key, :instance_id, :unknown, :now, 0, :now, :contact_endpoint)
    ON CONFLICT (agent_key, instance_id) DO UPDATE SET
        last_seen_at = max(last_seen_at, excluded.last_seen_at),
        contact_endpoint = ifnull(excluded.contact_endpoint, contact_endpoint)"""

_INSTANCES: Final = f"""
    SELECT * FROM instances AS i
    WHERE agent_key IN (SELECT value FROM json_each(?)) AND {PRESENT}
    ORDER BY instance_key"""  # noqa: S608 - made of constants

_IN_ALL: Final = "SELECT max(agent_key) FROM agents"
_ALL: Final = "agents INDEXED BY agents_by_name"


class _Filter(NamedTuple):
    """Agents of one kind: how many there are, as far as that matters; their keys; the same said
    of one of `agents`."""

    counted: str
    keys: str
    holds: str


_WITH_CAPABILITY: Final = _Filter(
    """SELECT count(*) FROM (
        SELECT 1 FROM agent_capabilities WHERE capability = :capability LIMIT :few)""",
    "SELECT agent_key FROM agent_capabilities WHERE capability = :capability",
    """EXISTS (
        SELECT 1 FROM agent_capabilities AS c
        WHERE c.capability = :capability AND c.agent_key = agents.agent_key)""",
)
_IN_STATE: Final = _Filter(
    """SELECT count(*) FROM (
        SELECT 1 FROM instances WHERE lower(state) = lower(:state) LIMIT :few)""",
    f"""SELECT DISTINCT i.agent_key FROM instances AS i
        WHERE lower(i.state) = lower(:state) AND {PRESENT}""",  # noqa: S608 - made of constants
    f"""EXISTS (
        SELECT 1 FROM instances AS i
        WHERE i.agent_key = agents.agent_key AND lower(i.state) = lower(:state)
          AND {PRESENT})""",  # noqa: S608 - made of constants
)

_LAST_EVENT: Final = 2**63 - 1
_HISTORY: Final = """
    SELECT e.*, i.instance_id FROM events AS e JOIN instances AS i USING (instance_key)
    WHERE e.agent_key = (SELECT agent_key FROM agents WHERE agent_id = ?)"""
_HISTORY_UP: Final = f"{_HISTORY} AND e.event_id > ? ORDER BY e.event_id LIMIT ?"
_HISTORY_DOWN: Final = f"{_HISTORY} AND e.event_id < ? ORDER BY e.event_id DESC LIMIT ?"
