"""Writing heartbeats to SQLite: all that share a transaction in one statement, as reports do."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Final

from opscore_middleware.core.records import HeartbeatOutcome, ReportOutcome, StoredHeartbeat
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.heartbeats import answers, folded

__all__ = ["HeartbeatWriter"]

_LARGEST: Final = 512  # rows of one statement; more take another
_WIDTH: Final = len(StoredHeartbeat._fields)
_PADDING: Final = (None,) * _WIDTH  # names no agent, so nothing is written for it


class HeartbeatWriter:
    """Writes heartbeats through the one connection that writes to the database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def write(self, beats: Sequence[StoredHeartbeat]) -> list[HeartbeatOutcome]:
        """Write heartbeats within the transaction that is open, and answer each of them."""
        keys: dict[str, int] = {}
        refused = {beat.agent_id: ReportOutcome.UNKNOWN_AGENT for beat in beats}
        wanted = json.dumps(list(refused))
        for agent_id, key, deregistered in self._connection.execute(_AGENTS, (wanted,)):
            if deregistered:
                refused[agent_id] = ReportOutcome.DEREGISTERED
            else:
                keys[agent_id] = key
        return answers(beats, keys, refused, self._write(folded(beats, keys)))

    def _write(self, rows: list[tuple[object, ...]]) -> Iterator[tuple[int, str, str, int]]:
        for start in range(0, len(rows), _LARGEST):
            chunk = rows[start : start + _LARGEST]
            size = 1 << (len(chunk) - 1).bit_length()
            padding = _PADDING * (size - len(chunk))
            values = (*chain.from_iterable(chunk), *padding)
            yield from self._connection.execute(_statement(size), values).fetchall()


_AGENTS: Final = """
    SELECT agent_id, agent_key, deregistered_at IS NOT NULL FROM agents
    WHERE agent_id IN (SELECT value FROM json_each(?))"""


@cache
def _statement(size: int) -> str:
    """Return the SQL that writes `size` heartbeats.

    An instance that a heartbeat makes known has reported nothing yet, and with an effective_at of 0
    any first report is the newer one.
    """
    rows = ",\n".join([f"({', '.join('?' * _WIDTH)})"] * size)
    return f"""
        WITH beat (agent_key, instance_id, received_at, started_at, interval, loop_lag, in_flight)
            AS (VALUES {rows})
        INSERT INTO instances (agent_key, instance_id, state, timestamp, effective_at,
                               last_seen_at, started_at, interval, loop_lag, in_flight)
        SELECT agent_key, instance_id, '{AgentState.UNKNOWN}', received_at, 0, received_at,
               started_at, interval, loop_lag, in_flight
        FROM beat WHERE agent_key IS NOT NULL
        ON CONFLICT (agent_key, instance_id) DO UPDATE SET
            last_seen_at = max(last_seen_at, excluded.last_seen_at),
            started_at = ifnull(started_at, excluded.started_at),
            interval = excluded.interval,
            loop_lag = excluded.loop_lag,
            in_flight = excluded.in_flight
        RETURNING agent_key, instance_id, state, ifnull(sequence, 0)"""  # noqa: S608 - constants
