"""What agents with open attempts say, in SQLite: whose turn it is to hear, and what there is."""

from __future__ import annotations

import sqlite3
from typing import Final

from opscore_middleware.core.runs.records import Stopped, Word
from opscore_middleware.stores.rows import NO_INSTANCE, stopped_attempts
from opscore_middleware.stores.sqlite_events import last_event_id
from opscore_middleware.stores.sqlite_tasks import IS_OPEN, OPEN_TASKS

__all__ = ["end_turn", "has_named", "heard", "hearing", "stopped", "words"]


def hearing(connection: sqlite3.Connection, *, holder: str, lease: int, now: int) -> int | None:
    """Keep `core.runs.store.RunStore.hearing`'s promise within the transaction that is open."""
    values = {"holder": holder, "until": now + lease, "now": now}
    row = connection.execute(_TAKE, values).fetchone()
    return None if row is None else int(row[0])


def heard(connection: sqlite3.Connection, *, holder: str, event_id: int) -> None:
    """Keep `core.runs.store.RunStore.heard`'s promise within the transaction that is open."""
    connection.execute("UPDATE hearing SET heard = ? WHERE holder = ?", (event_id, holder))


def end_turn(connection: sqlite3.Connection) -> None:
    """Take the turn from whoever had it: a process that has just taken the file is alone."""
    connection.execute("UPDATE hearing SET until = 0")


def words(
    connection: sqlite3.Connection, *, after: int, limit: int, since: int
) -> tuple[list[Word], int]:
    """Keep `core.runs.store.RunStore.words`'s promise, on one moment's view of the data."""
    last = last_event_id(connection)
    found = [Word(*row) for row in connection.execute(_WORDS, (after, limit, since)).fetchall()]
    return found, found[-1].event_id if len(found) == limit else max(last, after)


def has_named(connection: sqlite3.Connection, *, agent_id: str) -> bool:
    """Keep `core.runs.store.RunStore.has_named`'s promise."""
    row = connection.execute(_HAS_NAMED, (agent_id,)).fetchone()
    return row is not None and bool(row[0])


def stopped(connection: sqlite3.Connection, *, since: int) -> list[Stopped]:
    """Keep `core.runs.store.RunStore.stopped`'s promise."""
    return stopped_attempts(connection.execute(_STOPPED, (since,)).fetchall())


_TAKE: Final = """
    INSERT INTO hearing (hearing_key, holder, until, heard) VALUES (1, :holder, :until, 0)
    ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until
        WHERE holder = excluded.holder OR until <= :now OR until > :until + (:until - :now)
    RETURNING heard"""
# By the events' ids, not agent by agent: what is new is little, and wanted in its order.
_WORDS: Final = f"""
    SELECT e.event_id, a.agent_id, i.instance_id, e.state, e.details, e.received_at, e.sequence
    FROM events AS e
    CROSS JOIN instances AS i ON i.instance_key = e.instance_key
    CROSS JOIN agents AS a ON a.agent_key = e.agent_key
    WHERE e.event_id > ?1 AND +e.agent_key IN (
        SELECT at_work.agent_key FROM {OPEN_TASKS} JOIN agents AS at_work USING (agent_id)
        WHERE {IS_OPEN}
        UNION ALL
        SELECT told.agent_key FROM slots JOIN agents AS told USING (agent_id)
        WHERE slots.stopped_at >= ?3)
    ORDER BY e.event_id LIMIT ?2"""  # noqa: S608 - made of constants
_HAS_NAMED: Final = f"""
    SELECT EXISTS (SELECT 1 FROM instances AS i
                   WHERE i.agent_key = a.agent_key AND i.instance_id <> '{NO_INSTANCE}')
        OR EXISTS (SELECT 1 FROM events AS e
                   WHERE e.agent_key = a.agent_key AND instr(e.details, 'opscore_task_id') > 0)
    FROM agents AS a WHERE a.agent_id = ?"""  # noqa: S608 - made of constants
_STOPPED: Final = """
    SELECT agent_id, instance_id, stopped FROM slots WHERE stopped_at >= ? ORDER BY stopped_at"""
