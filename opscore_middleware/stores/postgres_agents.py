"""Agents in PostgreSQL: registering, taking out, reading with their instances and their history."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final, NamedTuple

import asyncpg

from opscore_middleware.core.models import Order, Registration, Transition
from opscore_middleware.core.records import AgentRecord, Once, ReportOutcome
from opscore_middleware.core.runs.records import Creation
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.states import AgentState
from opscore_middleware.core.store import Registered
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_creations import keep, refuse_repeats
from opscore_middleware.stores.postgres_locks import REGISTRATION
from opscore_middleware.stores.rows import (
    PRESENT,
    agent_record,
    instance_record,
    stored_json,
    stored_span,
    transition,
)

__all__ = [
    "Senders",
    "deregister",
    "get_agent",
    "history",
    "list_agents",
    "register",
    "senders",
]


class Senders(NamedTuple):
    """Who of some agents can report: their keys, and why the others cannot."""

    keys: dict[str, int]
    refused: dict[str, ReportOutcome]


async def senders(connection: Connection, agent_ids: Collection[str]) -> Senders:
    """Find out who can report."""
    keys: dict[str, int] = {}
    refused = dict.fromkeys(agent_ids, ReportOutcome.UNKNOWN_AGENT)
    for agent_id, agent_key, deregistered in await connection.fetch(_SENDERS, list(agent_ids)):
        if deregistered:
            refused[agent_id] = ReportOutcome.DEREGISTERED
        else:
            keys[agent_id] = agent_key
            del refused[agent_id]
    return Senders(keys, refused)


async def register(
    connection: Connection,
    *,
    registration: Registration,
    new_id: str,
    now: int,
    once: Once | None,
    route: Route | None,
    creation: Creation | None,
) -> Registered | None:
    """Keep `core.store.Store.register`'s promise within the transaction that is open."""
    await refuse_repeats(connection, creation, now=now)
    if not await _is_first(connection, once, now):
        return None
    registered = await _register(connection, registration, new_id, now, route)
    await keep(connection, creation, registered)
    return registered


async def _register(
    connection: Connection,
    registration: Registration,
    new_id: str,
    now: int,
    route: Route | None,
) -> Registered:
    # Of several that register one agent at once, the others wait here and then find it.
    given = registration.agent_id
    await connection.execute(_LOCK, registration.agent_name if given is None else given)
    known = await _known(connection, registration)
    agent_id = known["agent_id"] if known else given or new_id
    described = (
        registration.agent_name,
        registration.version,
        stored_json(registration.capabilities),
        registration.contact_endpoint,
        stored_json(registration.metadata),
        stored_span(registration.deregister_after),
        now,
        route,
    )
    if known:
        of_instance = registration.instance_id is not None
        agent_key = known["agent_key"]
        await connection.execute(_UPDATE_AGENT, *described, agent_key, of_instance)
    else:
        agent_key = await connection.fetchval(_INSERT_AGENT, *described, agent_id)
    if registration.instance_id is not None:
        await connection.execute(
            _REGISTER_INSTANCE,
            agent_key,
            registration.instance_id,
            now,
            registration.contact_endpoint,
        )
    record = await get_agent(connection, agent_id=agent_id)
    assert record is not None  # noqa: S101 - for the type checker: it was written above
    return Registered(record, created=known is None)


async def deregister(
    connection: Connection, *, agent_id: str, now: int, once: Once | None
) -> ReportOutcome | None:
    """Keep `core.store.Store.deregister`'s promise within the transaction that is open."""
    if not await _is_first(connection, once, now):
        return None
    if await connection.fetchrow(_DEREGISTER, now, agent_id):
        return ReportOutcome.ACCEPTED
    known = await connection.fetchrow(_BY_ID, agent_id)
    return ReportOutcome.DEREGISTERED if known else ReportOutcome.UNKNOWN_AGENT


async def get_agent(connection: Connection, *, agent_id: str) -> AgentRecord | None:
    """Return an agent with its instances, deregistered or not."""
    row = await connection.fetchrow(f"{_SELECT} WHERE agent_id = $1", agent_id)
    return None if row is None else _record(row)


async def list_agents(
    connection: Connection,
    *,
    name: str | None,
    capability: str | None,
    after: tuple[str, str] | None,
    limit: int,
    state: str | None,
) -> list[AgentRecord]:
    """List agents that are not deregistered, by name and id."""
    conditions = ["deregistered_at IS NULL"]
    values: list[Any] = [limit]
    if name is not None:
        values.append(name)
        conditions.append(f"agent_name = ${len(values)}")
    if capability is not None:
        values.append(capability)
        conditions.append(f"capabilities::jsonb ? ${len(values)}")
    if state is not None:
        values.append(state)
        column = "lower(i.state)" if state.lower() in _COMMON else "i.rare_state"
        conditions.append(f"{_HAS_STATE} AND {column} = lower(${len(values)}))")
    if after is not None:
        values += after
        conditions.append(f"(agent_name, agent_id) > (${len(values) - 1}, ${len(values)})")
    rows = await connection.fetch(
        f"{_SELECT} WHERE {' AND '.join(conditions)} ORDER BY agent_name, agent_id LIMIT $1",
        *values,
    )
    return [_record(row) for row in rows]


async def history(
    connection: Connection, *, agent_id: str, order: Order, after: int | None, limit: int
) -> list[Transition]:
    """List an agent's transitions by event id."""
    query, start = (_HISTORY_UP, 0) if order is Order.ASC else (_HISTORY_DOWN, _LAST_EVENT)
    rows = await connection.fetch(query, agent_id, start if after is None else after, limit)
    return [transition(row, agent_id=agent_id) for row in rows]


async def _is_first(connection: Connection, once: Once | None, now: int) -> bool:
    if once is None:
        return True
    await connection.execute(_FORGET, now)
    return await connection.fetchrow(_FIRST, once.key, once.until, now) is not None


async def _known(connection: Connection, registration: Registration) -> asyncpg.Record | None:
    if registration.agent_id is not None:
        return await connection.fetchrow(_BY_ID, registration.agent_id)
    return await connection.fetchrow(_BY_NAME, registration.agent_name)


def _record(row: asyncpg.Record) -> AgentRecord:
    return agent_record(row, map(instance_record, json.loads(row["instances"])))


_SENDERS: Final = """
    SELECT agent_id, agent_key, deregistered_at IS NOT NULL
    FROM opscore.agents WHERE agent_id = ANY($1::text[])"""

_LOCK: Final = f"SELECT pg_advisory_xact_lock({REGISTRATION}, hashtext($1))"

# What is over goes with the next that comes; what another transaction takes away is left to it.
_FORGET: Final = """
    DELETE FROM opscore.done_once WHERE key IN (
        SELECT key FROM opscore.done_once WHERE until < $1
        ORDER BY until LIMIT 100 FOR UPDATE SKIP LOCKED)"""
_FIRST: Final = """
    INSERT INTO opscore.done_once AS done (key, until) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET until = excluded.until WHERE done.until < $3
    RETURNING key"""

_BY_ID: Final = "SELECT agent_key, agent_id FROM opscore.agents WHERE agent_id = $1 FOR UPDATE"
_BY_NAME: Final = """
    SELECT agent_key, agent_id FROM opscore.agents WHERE agent_name = $1
    ORDER BY updated_at DESC, agent_key DESC LIMIT 1 FOR UPDATE"""

_INSERT_AGENT: Final = """
    INSERT INTO opscore.agents (agent_name, version, capabilities, contact_endpoint, metadata,
                                deregister_after, registered_at, updated_at, route, agent_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9) RETURNING agent_key"""
_UPDATE_AGENT: Final = """
    UPDATE opscore.agents SET
        agent_name = $1,
        version = $2,
        capabilities = $3,
        contact_endpoint = CASE WHEN $10
            THEN coalesce(contact_endpoint, $4) ELSE coalesce($4, contact_endpoint) END,
        metadata = $5,
        deregister_after = $6,
        updated_at = $7,
        deregistered_at = NULL,
        route = coalesce($8, route)
    WHERE agent_key = $9"""
# Not a registration, so `updated_at` stays: it says who was registered last under a name.
_DEREGISTER: Final = """
    UPDATE opscore.agents SET deregistered_at = $1
    WHERE agent_id = $2 AND deregistered_at IS NULL RETURNING agent_key"""
# An effective_at of 0 lets any first report be the newer one.
_REGISTER_INSTANCE: Final = f"""
    INSERT INTO opscore.instances AS i (agent_key, instance_id, state, timestamp, effective_at,
                                        last_seen_at, contact_endpoint)
    VALUES ($1, $2, '{AgentState.UNKNOWN}', $3, 0, $3, $4)
    ON CONFLICT (agent_key, instance_id) DO UPDATE SET
        last_seen_at = greatest(i.last_seen_at, excluded.last_seen_at),
        contact_endpoint = coalesce(excluded.contact_endpoint, i.contact_endpoint)"""  # noqa: S608

# An agent and its instances of one moment, in one statement. Columns are named, since a release
# that runs while the next one adds some must get what it asked for.
_SELECT: Final = f"""
    SELECT agent_id, agent_name, version, capabilities, contact_endpoint, metadata,
           registered_at, deregistered_at, deregister_after,
           coalesce((SELECT json_agg(i ORDER BY i.instance_key) FROM opscore.instances AS i
                     WHERE i.agent_key = agents.agent_key AND {PRESENT}), '[]') AS instances
    FROM opscore.agents"""  # noqa: S608 - made of constants

_HAS_STATE: Final = f"""EXISTS (
    SELECT FROM opscore.instances AS i
    WHERE i.agent_key = agents.agent_key AND {PRESENT}"""
_COMMON: Final = (AgentState.IDLE, AgentState.ACTIVE)
"""States that no index knows, and that many are in."""

_LAST_EVENT: Final = 2**63 - 1
_HISTORY: Final = """
    SELECT e.event_id, e.sequence, e.state, e.details, e.timestamp, e.received_at, e.coalesced,
           e.errors, i.instance_id
    FROM opscore.events AS e JOIN opscore.instances AS i USING (instance_key)
    WHERE e.agent_key = (SELECT agent_key FROM opscore.agents WHERE agent_id = $1)"""
_HISTORY_UP: Final = f"{_HISTORY} AND e.event_id > $2 ORDER BY e.event_id LIMIT $3"
_HISTORY_DOWN: Final = f"{_HISTORY} AND e.event_id < $2 ORDER BY e.event_id DESC LIMIT $3"
