"""Writing reports to PostgreSQL: all that share a transaction in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from opscore_middleware.core.records import ReportOutcome, StoredReport
from opscore_middleware.core.states import AgentState
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores.postgres_agents import Senders, senders
from opscore_middleware.stores.postgres_changes import Change, Reporting, rounds
from opscore_middleware.stores.postgres_connections import Connection, Connections
from opscore_middleware.stores.postgres_listener import CHANNEL
from opscore_middleware.stores.postgres_locks import EVENTS
from opscore_middleware.stores.rows import NO_INSTANCE

__all__ = ["HURRY", "Asked", "ReportWriter"]

Outcomes = list[ReportOutcome]


class Asked(NamedTuple):
    """What one caller wants written: all of it or nothing, with `whole`."""

    reports: Sequence[StoredReport]
    whole: bool


class ReportWriter:
    """Writes the reports of several callers in one transaction.

    What PostgreSQL refuses is written again, each caller's in a transaction of its own, so that
    one that fails, fails alone.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def write(self, callers: Sequence[Asked]) -> Sequence[Outcomes | Exception]:
        """Say what became of each caller's reports, once they are on disk.

        Raises `StoreUnavailable` when that cannot be known, or nothing was written.
        """
        try:
            async with self._connections.connection() as connection:
                return await _write(connection, callers)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(callers) == 1:
                return [error]
        return [(await self.write([caller]))[0] for caller in callers]


async def _write(connection: Connection, callers: Sequence[Asked]) -> list[Outcomes]:
    known = await senders(connection, {r.agent_id for c in callers for r in c.reports})
    outcomes = [_refused(caller, known) for caller in callers]
    wanted = [
        (outcome, position, Reporting(known.keys[report.agent_id], report))
        for caller, outcome in zip(callers, outcomes, strict=True)
        for position, report in enumerate(caller.reports)
        if outcome[position] is ReportOutcome.ACCEPTED
    ]
    repeats = await _commit(connection, [reporting for _, _, reporting in wanted])
    for repeat in repeats:
        outcome, position, _ = wanted[repeat]
        outcome[position] = ReportOutcome.DUPLICATE
    return outcomes


def _refused(caller: Asked, known: Senders) -> Outcomes:
    """Return the outcomes as if no report were a repeat.

    A report that is not written for the sake of another is answered as that one is.
    """
    outcomes = [
        known.refused.get(report.agent_id, ReportOutcome.ACCEPTED) for report in caller.reports
    ]
    if not caller.whole or not known.refused:
        return outcomes
    refusals = (outcome for outcome in outcomes if outcome is not ReportOutcome.ACCEPTED)
    first = next(refusals, ReportOutcome.ACCEPTED)
    return [first if outcome is ReportOutcome.ACCEPTED else outcome for outcome in outcomes]


async def _commit(connection: Connection, reports: Sequence[Reporting]) -> list[int]:
    """Write reports in a transaction of their own; return the positions of those that were repeats.

    Nearly always that is one statement. A replica that stops in the middle then holds up nobody,
    as it would between the statements of a longer transaction.
    """
    if not reports:
        return []
    first, *others = (_columns(changes) for changes in rounds(reports))
    values = (*first, *_events(reports))
    if not others:
        (repeats,) = await connection.fetch(_WRITE, *values)
    else:
        async with connection.transaction():
            await connection.execute(HURRY)
            (repeats,) = await connection.fetch(_WRITE, *values)
            for changes in others:
                await connection.execute(_CHANGE_AGAIN, *changes)
    return [position - 1 for position in repeats["positions"]]


def _columns(changes: Sequence[Change]) -> tuple[Sequence[object], ...]:
    return tuple(zip(*changes, strict=True))


def _events(reports: Sequence[Reporting]) -> tuple[Sequence[object], ...]:
    return tuple(
        zip(
            *(
                (
                    agent_key,
                    report.instance_id or NO_INSTANCE,
                    report.sequence,
                    report.state,
                    report.details,
                    report.timestamp,
                    report.received_at,
                    report.coalesced,
                    report.errors,
                )
                for agent_key, report in reports
            ),
            strict=True,
        )
    )


HURRY: Final = "SET LOCAL idle_in_transaction_session_timeout = '10s'"
"""Ends a transaction of several statements whose replica has stopped in the middle of it."""

# An instance's current state is replaced by a report with a higher sequence than any before; by one
# without a sequence when it is not older; never after the instance has finished.
_IS_NEWER: Final = f"""(
            (i.instance_id = '{NO_INSTANCE}' OR i.state <> '{AgentState.FINISHED}')
            AND CASE WHEN excluded.sequence IS NULL
                THEN excluded.effective_at >= i.effective_at
                ELSE excluded.sequence > coalesce(i.sequence, 0) END)"""

# Rows are changed in one order by whoever changes several, so that nobody waits in a circle.
_CHANGE: Final = f"""
    INSERT INTO opscore.instances AS i (agent_key, instance_id, state, details, timestamp,
                                        effective_at, sequence, started_at, last_seen_at)
    SELECT change.* FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[],
                                $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
        AS change (agent_key, instance_id, state, details, timestamp,
                   effective_at, sequence, started_at, last_seen_at), locked
    ORDER BY agent_key, instance_id COLLATE "C"
    ON CONFLICT (agent_key, instance_id) DO UPDATE SET
        state = CASE WHEN {_IS_NEWER} THEN excluded.state ELSE i.state END,
        details = CASE WHEN {_IS_NEWER} THEN excluded.details ELSE i.details END,
        timestamp = CASE WHEN {_IS_NEWER} THEN excluded.timestamp ELSE i.timestamp END,
        effective_at = CASE WHEN {_IS_NEWER} THEN excluded.effective_at ELSE i.effective_at END,
        sequence = CASE WHEN {_IS_NEWER}
            THEN coalesce(excluded.sequence, i.sequence) ELSE i.sequence END,
        started_at = coalesce(i.started_at, excluded.started_at),
        last_seen_at = greatest(i.last_seen_at, excluded.last_seen_at)"""  # noqa: S608 - constants

# Whoever writes events holds the lock from before they are numbered to the end of the commit, so
# that a reader who has seen one has seen all that have lower numbers. Whatever draws a number or
# changes a row here is joined to `locked`, and so comes after it. What the statement sees otherwise
# may be older than the lock; but conflicts are with rows as they are, not as it sees them.
_LOCKED: Final = f"locked AS MATERIALIZED (SELECT pg_advisory_xact_lock({EVENTS}))"

_CHANGE_AGAIN: Final = f"WITH {_LOCKED} {_CHANGE}"

# Events are numbered in the order in which they come, repeats too, which tells those apart: their
# numbers are not among the ones that were written.
_WRITE: Final = f"""
    WITH {_LOCKED}, touched AS ({_CHANGE}
        RETURNING agent_key, instance_id, instance_key
    ), numbered AS MATERIALIZED (
        SELECT nextval('opscore.event_ids') AS event_id, report.*
        FROM unnest($10::bigint[], $11::text[], $12::bigint[], $13::text[], $14::text[],
                    $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[]) WITH ORDINALITY
            AS report (agent_key, instance_id, sequence, state, details,
                       timestamp, received_at, coalesced, errors, position), locked
    ), written AS (
        INSERT INTO opscore.events (event_id, agent_key, instance_key, sequence, state, details,
                                    timestamp, received_at, coalesced, errors)
        SELECT n.event_id, n.agent_key, t.instance_key, n.sequence, n.state, n.details,
               n.timestamp, n.received_at, n.coalesced, n.errors
        FROM numbered AS n
        JOIN touched AS t ON t.agent_key = n.agent_key AND t.instance_id = n.instance_id
        ORDER BY n.event_id
        ON CONFLICT (instance_key, sequence) WHERE sequence IS NOT NULL DO NOTHING
        RETURNING event_id
    )
    SELECT ARRAY(SELECT position FROM numbered
                 WHERE event_id NOT IN (SELECT event_id FROM written)) AS positions,
           (SELECT pg_notify('{CHANNEL}', '') FROM written LIMIT 1)
    """  # noqa: S608 - constants
