"""Events of all agents in SQLite, in the order in which they were learned of."""

from __future__ import annotations

import sqlite3
from typing import Final

from opscore_middleware.core.watch import EventRecord
from opscore_middleware.stores.rows import event_record

__all__ = ["events", "first_event_id", "last_event_id", "prune"]


def events(
    connection: sqlite3.Connection,
    *,
    after: int,
    limit: int,
    max_size: int,
    agent_id: str | None,
) -> list[EventRecord]:
    """Keep `core.store.Store.events`'s promise."""
    if agent_id is None:
        rows = connection.execute(_EVENTS, (after, limit))
    else:
        rows = connection.execute(_EVENTS_OF_AGENT, (after, agent_id, limit))
    found: list[EventRecord] = []
    size = 0
    for row in rows:
        found.append(event_record(row))
        size += len(row["details"] or "")
        if size >= max_size:
            rows.close()
            break
    return found


def first_event_id(connection: sqlite3.Connection) -> int:
    """Return the lowest id that is kept, or the next one when none is."""
    (first,) = connection.execute("SELECT min(event_id) FROM events").fetchone()
    return last_event_id(connection) + 1 if first is None else int(first)


def last_event_id(connection: sqlite3.Connection) -> int:
    """Return the highest id that was ever given, 0 when none was."""
    # Kept by SQLite for AUTOINCREMENT, so that it knows also of rows that are gone.
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return int(row[0]) if row else 0


def prune(connection: sqlite3.Connection, *, before: int, limit: int) -> int:
    """Delete old events within the transaction that is open; return how many."""
    return connection.execute(_PRUNE, (limit, before)).rowcount


_SELECT: Final = """
    SELECT e.*, i.instance_id, a.agent_id, a.agent_name, a.capabilities
    FROM events AS e
    CROSS JOIN instances AS i ON i.instance_key = e.instance_key
    CROSS JOIN agents AS a ON a.agent_key = e.agent_key
    WHERE e.event_id > ?"""
_EVENTS: Final = f"{_SELECT} ORDER BY e.event_id LIMIT ?"
_EVENTS_OF_AGENT: Final = f"""{_SELECT}
    AND e.agent_key = (SELECT agent_key FROM agents WHERE agent_id = ?)
    ORDER BY e.event_id LIMIT ?"""  # noqa: S608 - made of constants

# Only the oldest few are looked at: by their ids, which rise with the time.
_PRUNE: Final = """
    DELETE FROM events WHERE event_id IN (
        SELECT event_id FROM (SELECT event_id, received_at FROM events ORDER BY event_id LIMIT ?)
        WHERE received_at < ?)"""
