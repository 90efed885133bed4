"""Events of all agents in PostgreSQL, in the order in which they were learned of."""

from __future__ import annotations

from typing import Final

from opscore_middleware.core.watch import EventRecord
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_locks import EVENTS
from opscore_middleware.stores.rows import event_record

__all__ = ["events", "first_event_id", "last_event_id", "prune"]


async def events(
    connection: Connection, *, after: int, limit: int, max_size: int, agent_id: str | None
) -> list[EventRecord]:
    """Keep `core.store.Store.events`'s promise."""
    if agent_id is None:
        rows = await connection.fetch(_EVENTS, after, limit, max_size)
    else:
        rows = await connection.fetch(_EVENTS_OF_AGENT, after, limit, max_size, agent_id)
    return [event_record(row) for row in rows]


async def first_event_id(connection: Connection) -> int:
    """Return the lowest id that is kept, or the next one when none is."""
    first: int | None = await connection.fetchval(_FIRST)
    if first is None:
        async with connection.transaction():
            await connection.execute(_NOBODY_WRITES)
            first = await connection.fetchval(_FIRST) or await connection.fetchval(_GIVEN) + 1
    return first


async def last_event_id(connection: Connection) -> int:
    """Return the highest id that was ever given, 0 when none was.

    What is being written meanwhile does not count yet: who goes on after that id must see it.
    """
    last: int | None = await connection.fetchval(_LAST)
    if last is None:
        async with connection.transaction():
            await connection.execute(_NOBODY_WRITES)
            last = await connection.fetchval(_LAST) or await connection.fetchval(_GIVEN)
    return last


async def prune(connection: Connection, *, before: int, limit: int) -> int:
    """Delete old events; return how many."""
    return len(await connection.fetch(_PRUNE, limit, before))


def _page(condition: str) -> str:
    """Return the SQL for a page of events, which ends where its details have grown too large."""
    return f"""
        WITH page AS (
            SELECT e.event_id, e.sequence, e.state, e.details, e.timestamp, e.received_at,
                   e.coalesced, e.errors, i.instance_id, a.agent_id, a.agent_name, a.capabilities
            FROM opscore.events AS e
            JOIN opscore.instances AS i ON i.instance_key = e.instance_key
            JOIN opscore.agents AS a ON a.agent_key = e.agent_key
            WHERE e.event_id > $1 AND {condition}
            ORDER BY e.event_id LIMIT $2
        ), measured AS (
            SELECT page.*, sum(coalesce(length(details), 0)) OVER (ORDER BY event_id) AS size
            FROM page
        )
        SELECT * FROM measured WHERE size - coalesce(length(details), 0) < $3 ORDER BY event_id
        """  # noqa: S608 - made of constants


_EVENTS: Final = _page("true")
_EVENTS_OF_AGENT: Final = _page(
    "e.agent_key = (SELECT agent_key FROM opscore.agents WHERE agent_id = $4)"
)

_FIRST: Final = "SELECT min(event_id) FROM opscore.events"
_LAST: Final = "SELECT max(event_id) FROM opscore.events"
# The sequence also knows of events that are gone; and of ones that are not there yet, unless
# nobody is writing.
_NOBODY_WRITES: Final = f"SELECT pg_advisory_xact_lock_shared({EVENTS})"
_GIVEN: Final = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM opscore.event_ids"

# Only the oldest few are looked at: by their ids, which rise with the time.
_PRUNE: Final = """
    DELETE FROM opscore.events WHERE event_id IN (
        SELECT event_id FROM (
            SELECT event_id, received_at FROM opscore.events ORDER BY event_id LIMIT $1) AS oldest
        WHERE received_at < $2)
    RETURNING event_id"""
