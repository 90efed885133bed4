"""What passes between the core and its stores: rows, ready to be written and as they were read.

Times are microseconds since the Unix epoch, UTC; `details` and `metadata` are JSON text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = [
    "AgentRecord",
    "HeartbeatOutcome",
    "InstanceRecord",
    "Once",
    "ReportOutcome",
    "StoredHeartbeat",
    "StoredReport",
]


class StoredReport(NamedTuple):
    """A report after the core's rules, ready to be written.

    `details` is JSON text. `effective_at` orders reports that carry no sequence: the report's own
    time, or its arrival where the client's clock cannot be right. Times are microseconds since the
    Unix epoch, UTC.
    """

    agent_id: str
    instance_id: str | None
    sequence: int | None
    state: str
    details: str | None
    timestamp: int
    effective_at: int
    received_at: int
    started_at: int | None
    coalesced: int
    errors: int


class ReportOutcome(StrEnum):
    """What a store did with a report."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNKNOWN_AGENT = "unknown_agent"
    DEREGISTERED = "deregistered"


class Once(NamedTuple):
    """A name under which something is done once: again before `until`, nothing happens."""

    key: str
    until: int


class StoredHeartbeat(NamedTuple):
    """A heartbeat, ready to be written; times and `interval` are microseconds."""

    agent_id: str
    instance_id: str
    received_at: int
    started_at: int | None
    interval: int
    loop_lag: float | None
    in_flight: int | None


class HeartbeatOutcome(NamedTuple):
    """What a store knows of an instance that sent a heartbeat."""

    outcome: ReportOutcome
    state: str
    last_sequence: int


class InstanceRecord(NamedTuple):
    """One instance as a store keeps it; times are microseconds since the Unix epoch, UTC.

    `interval` is the one that its last heartbeat advertised, in microseconds; None where it never
    sent one. `loop_lag`, in seconds, and `in_flight` come from there too.
    """

    instance_id: str | None
    state: str
    details: str | None
    timestamp: int
    sequence: int | None
    started_at: int | None
    last_seen_at: int
    contact_endpoint: str | None
    interval: int | None = None
    loop_lag: float | None = None
    in_flight: int | None = None


class AgentRecord(NamedTuple):
    """One agent as a store keeps it, with its instances; times as in `InstanceRecord`."""

    agent_id: str
    agent_name: str
    version: str
    capabilities: tuple[str, ...]
    contact_endpoint: str | None
    metadata: str | None
    registered_at: int
    deregistered_at: int | None
    instances: tuple[InstanceRecord, ...]
    deregister_after: int | None = None
