"""From rows to records, for every SQL store: columns carry the same names in all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, Protocol

from pydantic_core import to_json

from opscore_middleware.core.clock import SECOND, from_micros
from opscore_middleware.core.models import Transition
from opscore_middleware.core.records import AgentRecord, InstanceRecord
from opscore_middleware.core.runs.records import Stopped
from opscore_middleware.core.sessions import Session, SessionState
from opscore_middleware.core.watch import EventRecord

__all__ = [
    "NO_INSTANCE",
    "PRESENT",
    "STOPPED_ROOM",
    "Row",
    "agent_record",
    "agent_records",
    "event_record",
    "instance_record",
    "session",
    "stopped_attempts",
    "stored_json",
    "stored_span",
    "transition",
]

NO_INSTANCE: Final = ""
"""What a database keeps as the instance id of reports that name none."""


PRESENT: Final = "(i.forgotten_at IS NULL OR i.last_seen_at > i.forgotten_at)"
"""Says of an instance `i` that it shows, in the SQL of every store."""


STOPPED_ROOM: Final = 1000
"""How many characters a slot has for the attempts that its instance is to stop, the latest last."""


class Row(Protocol):
    """A row whose columns are read by name, as `sqlite3.Row` and `asyncpg.Record` are."""

    def __getitem__(self, column: str, /) -> Any: ...


def stored_span(seconds: float | None) -> int | None:
    """Return a time in seconds as the microseconds that a database keeps, at least one."""
    return None if seconds is None else max(1, round(seconds * SECOND))


def stored_json(value: Any) -> str | None:
    """Return a value as the JSON text that a database keeps."""
    return None if value is None else to_json(value, inf_nan_mode="null").decode()


def agent_records(agents: Iterable[Row], instances: Iterable[Row]) -> list[AgentRecord]:
    """Put agents and their instances together, both in the order in which they come."""
    by_agent: dict[int, list[InstanceRecord]] = {}
    for row in instances:
        by_agent.setdefault(row["agent_key"], []).append(instance_record(row))
    return [agent_record(row, by_agent.get(row["agent_key"], ())) for row in agents]


def agent_record(row: Row, instances: Iterable[InstanceRecord]) -> AgentRecord:
    """Read a row of `agents`."""
    return AgentRecord(
        agent_id=row["agent_id"],
        agent_name=row["agent_name"],
        version=row["version"],
        capabilities=tuple(json.loads(row["capabilities"])),
        contact_endpoint=row["contact_endpoint"],
        metadata=row["metadata"],
        registered_at=row["registered_at"],
        deregistered_at=row["deregistered_at"],
        deregister_after=row["deregister_after"],
        instances=tuple(instances),
    )


def instance_record(row: Row) -> InstanceRecord:
    """Read a row of `instances`."""
    return InstanceRecord(
        instance_id=row["instance_id"] or None,
        state=row["state"],
        details=row["details"],
        timestamp=row["timestamp"],
        sequence=row["sequence"],
        started_at=row["started_at"],
        last_seen_at=row["last_seen_at"],
        contact_endpoint=row["contact_endpoint"],
        interval=row["interval"],
        loop_lag=row["loop_lag"],
        in_flight=row["in_flight"],
    )


def transition(row: Row, *, agent_id: str) -> Transition:
    """Read a row of `events` that carries its instance's id."""
    return Transition(
        event_id=row["event_id"],
        agent_id=agent_id,
        state=row["state"],
        details=_loaded(row["details"]),
        timestamp=from_micros(row["timestamp"]),
        received_at=from_micros(row["received_at"]),
        instance_id=row["instance_id"] or None,
        sequence=row["sequence"],
        coalesced=row["coalesced"],
        errors=row["errors"],
    )


def event_record(row: Row) -> EventRecord:
    """Read a row of `events` that carries its instance's id and its agent."""
    return EventRecord(
        event_id=row["event_id"],
        agent_id=row["agent_id"],
        agent_name=row["agent_name"],
        capabilities=tuple(json.loads(row["capabilities"])),
        state=row["state"],
        details=row["details"],
        timestamp=row["timestamp"],
        received_at=row["received_at"],
        instance_id=row["instance_id"] or None,
        sequence=row["sequence"],
        coalesced=row["coalesced"],
        errors=row["errors"],
    )


def session(row: Row) -> Session:
    """Read a row of `sessions` that carries its agent's id."""
    ended_at = row["ended_at"]
    return Session(
        session_id=row["session_id"],
        agent_id=row["agent_id"],
        workflow_id=row["workflow_id"],
        workflow_version=row["workflow_version"],
        initial_payload=_loaded(row["initial_payload"]),
        state=SessionState(row["state"]),
        result=_loaded(row["result"]),
        error=_loaded(row["error"]),
        metadata=_loaded(row["metadata"]),
        created_at=from_micros(row["created_at"]),
        updated_at=from_micros(row["updated_at"]),
        ended_at=None if ended_at is None else from_micros(ended_at),
    )


def stopped_attempts(rows: Iterable[Row]) -> list[Stopped]:
    """Read the attempts that slots hold, with a space between them."""
    return [
        Stopped(row["agent_id"], row["instance_id"], attempt)
        for row in rows
        for attempt in dict.fromkeys(row["stopped"].split())
    ]


def _loaded(text: str | None) -> Any:
    return None if text is None else json.loads(text)
