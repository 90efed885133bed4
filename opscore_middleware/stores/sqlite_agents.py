"""Agents in SQLite: registering, taking out, reading with their instances and their history."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

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
    conditions = ["deregistered_at IS NULL"]
    values: list[Any] = []
    if name is not None:
        conditions.append("agent_name = ?")
        values.append(name)
    if capability is not None:
        conditions.append(
            "agent_key IN (SELECT agent_key FROM agent_capabilities WHERE capability = ?)"
        )
        values.append(capability)
    if state is not None:
        conditions.append(_HAS_STATE)
        values.append(state)
    if after is not None:
        conditions.append("(agent_name, agent_id) > (?, ?)")
        values += after
    agents = connection.execute(
        f"SELECT * FROM agents WHERE {' AND '.join(conditions)}"  # noqa: S608 - constants above
        " ORDER BY agent_name, agent_id LIMIT ?",
        (*values, limit),
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

_HAS_STATE: Final = f"""EXISTS (
    SELECT 1 FROM instances AS i
    WHERE i.agent_key = agents.agent_key AND lower(i.state) = lower(?) AND {PRESENT})"""  # noqa: S608

_LAST_EVENT: Final = 2**63 - 1
_HISTORY: Final = """
    SELECT e.*, i.instance_id FROM events AS e JOIN instances AS i USING (instance_key)
    WHERE e.agent_key = (SELECT agent_key FROM agents WHERE agent_id = ?)"""
_HISTORY_UP: Final = f"{_HISTORY} AND e.event_id > ? ORDER BY e.event_id LIMIT ?"
_HISTORY_DOWN: Final = f"{_HISTORY} AND e.event_id < ? ORDER BY e.event_id DESC LIMIT ?"
