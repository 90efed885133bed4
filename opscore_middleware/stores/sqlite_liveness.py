"""Signs of life in SQLite: heartbeats, and the watermark that says when somebody was listening."""

from __future__ import annotations

import sqlite3
from typing import Final

from opscore_middleware.core.liveness import Watermark, advance
from opscore_middleware.core.records import HeartbeatOutcome, ReportOutcome, StoredHeartbeat
from opscore_middleware.core.states import AgentState

__all__ = ["heartbeat", "watermark"]

_UNKNOWN: Final = AgentState.UNKNOWN.value


def heartbeat(connection: sqlite3.Connection, *, beat: StoredHeartbeat) -> HeartbeatOutcome:
    """Keep `core.store.Store.heartbeat`'s promise within the transaction that is open."""
    row = connection.execute(_BEAT, beat).fetchone()
    if row is not None:
        state, last_sequence = row
        return HeartbeatOutcome(ReportOutcome.ACCEPTED, state, last_sequence)
    agent = connection.execute(_AGENT, (beat.agent_id,)).fetchone()
    outcome = ReportOutcome.DEREGISTERED if agent else ReportOutcome.UNKNOWN_AGENT
    return HeartbeatOutcome(outcome, _UNKNOWN, 0)


def watermark(connection: sqlite3.Connection, *, now: int) -> Watermark:
    """Move the watermark on within the transaction that is open, and return it."""
    row = connection.execute("SELECT since, seen_at FROM watermark").fetchone()
    mark = advance(None if row is None else Watermark(*row), now)
    connection.execute(_SET_WATERMARK, mark)
    return mark


# One statement, in the order of StoredHeartbeat's fields. An instance that it makes known has
# reported nothing yet, and with an effective_at of 0 any first report is the newer one.
_BEAT: Final = f"""
    INSERT INTO instances (agent_key, instance_id, state, timestamp, effective_at, last_seen_at,
                           started_at, interval, loop_lag, in_flight)
    SELECT agent_key, ?2, '{_UNKNOWN}', ?3, 0, ?3, ?4, ?5, ?6, ?7
    FROM agents WHERE agent_id = ?1 AND deregistered_at IS NULL
    ON CONFLICT (agent_key, instance_id) DO UPDATE SET
        last_seen_at = max(last_seen_at, excluded.last_seen_at),
        started_at = ifnull(started_at, excluded.started_at),
        interval = excluded.interval,
        loop_lag = excluded.loop_lag,
        in_flight = excluded.in_flight
    RETURNING state, ifnull(sequence, 0)"""  # noqa: S608 - made of constants

_AGENT: Final = "SELECT 1 FROM agents WHERE agent_id = ?"

_SET_WATERMARK: Final = """
    INSERT INTO watermark (watermark_key, since, seen_at) VALUES (1, ?, ?)
    ON CONFLICT DO UPDATE SET since = excluded.since, seen_at = excluded.seen_at"""
