"""Signs of life in PostgreSQL: heartbeats, and the watermark that says when somebody listened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opscore_middleware.core.clock import SECOND, Clock
from opscore_middleware.core.liveness import Watermark, advance
from opscore_middleware.core.records import (
    HeartbeatOutcome,
    StoredHeartbeat,
    StoredReport,
)
from opscore_middleware.core.states import AgentState
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores.heartbeats import answers, folded
from opscore_middleware.stores.postgres_agents import senders
from opscore_middleware.stores.postgres_connections import Connection, Connections

__all__ = ["DatabaseClock", "HeartbeatWriter", "watermark"]

_UNKNOWN: Final = AgentState.UNKNOWN.value
_TOLERANCE: Final = SECOND


class DatabaseClock:
    """Turns this process's time into the database's, which is the same for all replicas.

    Whether an instance is lost is told by when one replica heard of it and when another one
    listened. Clocks that agree within a second are left alone.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = 0

    def __call__(self, moment: int) -> int:
        """Return a moment of this process's clock as the database's, in microseconds."""
        return moment + self._ahead

    def of_reports(self, reports: Sequence[StoredReport]) -> Sequence[StoredReport]:
        """Return reports as received by the database's clock."""
        if not self._ahead:
            return reports
        return [report._replace(received_at=self(report.received_at)) for report in reports]

    async def compare(self, connection: Connection) -> None:
        """Find out how far the database's clock is ahead."""
        before = self._clock()
        theirs: int = await connection.fetchval(_CLOCK)
        ahead = theirs - (before + self._clock()) // 2
        self._ahead = ahead if abs(ahead) > _TOLERANCE else 0


async def watermark(connection: Connection, *, now: int) -> Watermark:
    """Move the watermark on within the transaction that is open, and return it."""
    (row,) = await connection.fetch(_WATERMARK)
    mark = advance(None if row["since"] is None else Watermark(*row), now)
    await connection.execute(_SET_WATERMARK, *mark)
    return mark


class HeartbeatWriter:
    """Writes the heartbeats of several callers in one statement; one that fails, fails alone."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def write(
        self, beats: Sequence[StoredHeartbeat]
    ) -> Sequence[HeartbeatOutcome | Exception]:
        """Say what is known of each one's instance. Raises `StoreUnavailable`."""
        try:
            async with self._connections.connection() as connection:
                return await _write(connection, beats)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(beats) == 1:
                return [error]
        return [(await self.write([beat]))[0] for beat in beats]


async def _write(
    connection: Connection, beats: Sequence[StoredHeartbeat]
) -> list[HeartbeatOutcome]:
    agents = await senders(connection, {beat.agent_id for beat in beats})
    rows = folded(beats, agents.keys)
    written = await connection.fetch(_BEAT, *zip(*rows, strict=True)) if rows else ()
    return answers(beats, agents.keys, agents.refused, written)


_CLOCK: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

# An instance that a heartbeat makes known has reported nothing yet, and with an effective_at of 0
# any first report is the newer one. Rows are changed in the order in which reports change them.
_BEAT: Final = f"""
    INSERT INTO opscore.instances AS i (agent_key, instance_id, state, timestamp, effective_at,
                                        last_seen_at, started_at, interval, loop_lag, in_flight)
    SELECT agent_key, instance_id, '{_UNKNOWN}', received_at, 0, received_at, started_at,
           interval, loop_lag, in_flight
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                $6::double precision[], $7::bigint[])
        AS beat (agent_key, instance_id, received_at, started_at, interval, loop_lag, in_flight)
    ORDER BY agent_key, instance_id COLLATE "C"
    ON CONFLICT (agent_key, instance_id) DO UPDATE SET
        last_seen_at = greatest(i.last_seen_at, excluded.last_seen_at),
        started_at = coalesce(i.started_at, excluded.started_at),
        interval = excluded.interval,
        loop_lag = excluded.loop_lag,
        in_flight = excluded.in_flight
    RETURNING agent_key, instance_id, state, coalesce(sequence, 0)"""  # noqa: S608 - constants

_WATERMARK: Final = "SELECT since, seen_at FROM opscore.watermark FOR UPDATE"
_SET_WATERMARK: Final = "UPDATE opscore.watermark SET since = $1, seen_at = $2"
