"""Writing reports to SQLite: all that share a transaction in one statement.

The statement runs without Python's global lock, so a server with two cores goes on taking requests
while its reports are written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from functools import cache
from itertools import chain
from typing import Final

from opscore_middleware.core.records import ReportOutcome, StoredReport
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.rows import NO_INSTANCE

__all__ = ["ReportWriter"]

_LARGEST: Final = 512  # rows of one statement; more take another
_COLUMNS: Final = ", ".join(StoredReport._fields)
_WIDTH: Final = len(StoredReport._fields)
_PADDING: Final = (None,) * _WIDTH  # names no agent, so nothing is written for it

# An instance's current state is replaced by a report with a higher sequence than any before; by one
# without a sequence when it is not older; never after the instance has finished.
_IS_NEWER: Final = f"""(
            (instances.instance_id = '{NO_INSTANCE}' OR instances.state <> '{AgentState.FINISHED}')
            AND CASE WHEN excluded.sequence IS NULL
                THEN excluded.effective_at >= instances.effective_at
                ELSE excluded.sequence > ifnull(instances.sequence, 0) END)"""

# What is inserted into this view is written row by row, in order: each report changes exactly one
# instance and, unless its sequence was written before, adds one event.
_VIEW: Final = f"""
CREATE TEMP VIEW incoming AS
    SELECT 0 AS event_id, 0 AS agent_key, {", ".join(f"0 AS {c}" for c in StoredReport._fields)};

CREATE TEMP TRIGGER write_report INSTEAD OF INSERT ON incoming BEGIN
    INSERT INTO instances (agent_key, instance_id, state, details, timestamp, effective_at,
                           sequence, started_at, last_seen_at)
    VALUES (new.agent_key, new.instance_id, new.state, new.details, new.timestamp,
            new.effective_at, new.sequence, new.started_at, new.received_at)
    ON CONFLICT (agent_key, instance_id) DO UPDATE SET
        state = CASE WHEN {_IS_NEWER} THEN excluded.state ELSE state END,
        details = CASE WHEN {_IS_NEWER} THEN excluded.details ELSE details END,
        timestamp = CASE WHEN {_IS_NEWER} THEN excluded.timestamp ELSE timestamp END,
        effective_at = CASE WHEN {_IS_NEWER} THEN excluded.effective_at ELSE effective_at END,
        sequence = CASE WHEN {_IS_NEWER}
            THEN ifnull(excluded.sequence, sequence) ELSE sequence END,
        started_at = ifnull(started_at, excluded.started_at),
        last_seen_at = max(last_seen_at, excluded.last_seen_at);

    INSERT INTO events (event_id, agent_key, instance_key, sequence, state, details, timestamp,
                        received_at, coalesced, errors)
    VALUES (new.event_id, new.agent_key,
            (SELECT instance_key FROM instances
             WHERE agent_key = new.agent_key AND instance_id = new.instance_id),
            new.sequence, new.state, new.details, new.timestamp,
            new.received_at, new.coalesced, new.errors)
    ON CONFLICT (instance_key, sequence) WHERE sequence IS NOT NULL DO NOTHING;
END;
"""  # noqa: S608 - made of constants


class ReportWriter:
    """Writes reports through the one connection that writes to the database.

    It numbers the events itself, which tells afterwards which reports were new; numbers may be
    left out, and none is given twice.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript(_VIEW)
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        self._last_event_id: int = row[0] if row else 0

    def write(self, reports: Sequence[StoredReport]) -> list[ReportOutcome]:
        """Write reports in order, within the transaction that is open."""
        first = self._last_event_id + 1
        changes = self._connection.total_changes
        for start in range(0, len(reports), _LARGEST):
            chunk = reports[start : start + _LARGEST]
            size = 1 << (len(chunk) - 1).bit_length()
            padding = _PADDING * (size - len(chunk))
            values = chain((first + start,), chain.from_iterable(chunk), padding)
            self._connection.execute(_statement(size), tuple(values))
        self._last_event_id += len(reports)
        if self._connection.total_changes - changes == 2 * len(reports):
            return [ReportOutcome.ACCEPTED] * len(reports)
        return self._outcomes(first, reports)

    def strangers(self, reports: Collection[StoredReport]) -> dict[str, ReportOutcome]:
        """Say why reports of some agents cannot be written, by agent."""
        wanted = {report.agent_id for report in reports}
        rows = self._connection.execute(
            "SELECT agent_id, deregistered_at IS NOT NULL FROM agents"
            " WHERE agent_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(wanted)),),
        ).fetchall()
        found = dict.fromkeys(wanted, ReportOutcome.UNKNOWN_AGENT)
        for agent_id, deregistered in rows:
            if deregistered:
                found[agent_id] = ReportOutcome.DEREGISTERED
            else:
                del found[agent_id]
        return found

    def _outcomes(self, first: int, reports: Sequence[StoredReport]) -> list[ReportOutcome]:
        new = {
            event_id
            for (event_id,) in self._connection.execute(
                "SELECT event_id FROM events WHERE event_id >= ?", (first,)
            )
        }
        strangers = self.strangers(reports)
        return [
            ReportOutcome.ACCEPTED
            if event_id in new
            else strangers.get(report.agent_id, ReportOutcome.DUPLICATE)
            for event_id, report in enumerate(reports, first)
        ]


@cache
def _statement(size: int) -> str:
    """Return the SQL that writes `size` reports; its first parameter is the first event's id."""
    row = f"({', '.join('?' * _WIDTH)})"
    rows = ",\n".join(f"(?1 + {position}, {row[1:]}" for position in range(size))
    columns = ", ".join(
        f"ifnull(r.instance_id, '{NO_INSTANCE}')" if column == "instance_id" else f"r.{column}"
        for column in StoredReport._fields
    )
    return f"""
        WITH r (event_id, {_COLUMNS}) AS (VALUES {rows})
        INSERT INTO incoming (event_id, agent_key, {_COLUMNS})
        SELECT r.event_id, a.agent_key, {columns}
        FROM r CROSS JOIN agents AS a ON a.agent_id = r.agent_id
        WHERE a.deregistered_at IS NULL
        ORDER BY r.event_id"""  # noqa: S608 - made of constants
