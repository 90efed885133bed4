"""Slots that are free in PostgreSQL: of available instances that hold no attempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from opscore_middleware.core.liveness import NEVER, Watermark
from opscore_middleware.core.runs.availability import QUIET_AFTER_ERROR, is_available
from opscore_middleware.core.runs.matching import Slot
from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.fleet_sql import POSTGRES, late
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_endpoints import URL, endpoint_of
from opscore_middleware.stores.postgres_tasks import IS_OPEN
from opscore_middleware.stores.rows import NO_INSTANCE, PRESENT, instance_record

__all__ = ["FreeSlots", "Wanted", "free_slots"]


class Wanted(NamedTuple):
    """Whose slots are looked for: of these agents, and of all that can do something of this."""

    agent_ids: Collection[str]
    capabilities: Collection[str]


class FreeSlots(NamedTuple):
    """Slots, and where they are; `is_all` says that nobody wanted has any more."""

    endpoints: dict[Slot, Endpoint]
    is_all: bool


async def free_slots(
    connection: Connection,
    wanted: Wanted,
    *,
    known: Collection[str],
    limit: int,
    mark: Watermark | None,
    now: int,
) -> FreeSlots:
    """Return free slots, of each agent and for each capability `limit` at most.

    Those are the ones that were longest without a task. As nobody gives more than `limit` tasks
    away at once, one of them is always left for the next. `known` are the capabilities that count.
    """
    rows = await connection.fetch(
        _FREE,
        list(wanted.agent_ids),
        list(wanted.capabilities),
        list(known),
        limit,
        *(NEVER if mark is None else mark),
        now,
    )
    found = Counter(row["wanted"] for row in rows)
    endpoints = {
        _slot(row): endpoint_of(row)
        for row in rows
        if is_available(instance_record(row), mark, now)
    }
    return FreeSlots(endpoints, all(count < limit for count in found.values()))


def _slot(row: Any) -> Slot:
    return Slot(row["agent_id"], row["instance_id"], tuple(row["able"]), row["given_at"])


# Says what `is_available` says, but for a startup that failed: those come last, and are looked at
# there. Without an instance, reports count as one, which real instances supersede. The offset keeps
# the server from looking through all attempts of an agent for each of its instances.
_IS_FREE: Final = f"""
    a.deregistered_at IS NULL AND {PRESENT} AND NOT {late(POSTGRES, 5, 6)}
    AND (a.route = '{Route.AGENTKIT}' OR coalesce(i.contact_endpoint, a.contact_endpoint) <> '')
    AND (i.state = '{AgentState.IDLE}' OR i.state = '{AgentState.ERROR}'
         AND (i.sequence IS NOT NULL OR i.last_seen_at <= $7::bigint - {QUIET_AFTER_ERROR}))
    AND (i.instance_id <> '{NO_INSTANCE}' OR NOT EXISTS (
        SELECT FROM opscore.instances AS i
        WHERE i.agent_key = a.agent_key AND i.instance_id <> '{NO_INSTANCE}'
          AND i.state <> '{AgentState.UNKNOWN}' AND {PRESENT}))
    AND NOT EXISTS (
        SELECT FROM opscore.tasks AS t
        WHERE {IS_OPEN} AND t.agent_id = a.agent_id AND t.instance_id = i.instance_id
        OFFSET 0)"""  # noqa: S608 - made of constants

_MAY_NOT_START: Final = f"""(i.state = '{AgentState.ERROR}'
         AND coalesce(i.details, '') LIKE '%"startup"%')"""


def _free(wanted: str, agents: str) -> str:
    return f"""
        SELECT wanted.name AS wanted, free.* FROM unnest({wanted}::text[]) AS wanted (name)
        CROSS JOIN LATERAL (
            SELECT a.agent_id, a.route, {URL}, i.instance_id, i.state,
                   CASE WHEN i.state = '{AgentState.ERROR}' THEN i.details END AS details,
                   i.timestamp, i.sequence, i.started_at, i.last_seen_at, i.contact_endpoint,
                   i.interval, i.loop_lag, i.in_flight, slot.given_at,
                   ARRAY(SELECT jsonb_array_elements_text(a.capabilities::jsonb)
                         INTERSECT SELECT unnest($3::text[])) AS able
            FROM opscore.agents AS a
            JOIN opscore.instances AS i ON i.agent_key = a.agent_key
            LEFT JOIN opscore.slots AS slot
                ON slot.agent_id = a.agent_id AND slot.instance_id = i.instance_id
            WHERE {agents} AND {_IS_FREE}
            ORDER BY {_MAY_NOT_START}, coalesce(slot.given_at, 0) LIMIT $4) AS free
        """  # noqa: S608 - made of constants


_FREE: Final = f"""
    {_free("$1", "a.agent_id = wanted.name")}
    UNION ALL {_free("$2", "a.capabilities::jsonb ? wanted.name")}"""
