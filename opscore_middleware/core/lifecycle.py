"""The rules for reports and registrations, as pure functions from values and `now` to values."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

from pydantic_core import to_json

from opscore_middleware.core.clock import SECOND, from_micros, to_micros
from opscore_middleware.core.liveness import Watermark, is_lost, liveness
from opscore_middleware.core.models import Agent, AgentStateView, Heartbeat, Instance, StateReport
from opscore_middleware.core.records import (
    AgentRecord,
    InstanceRecord,
    StoredHeartbeat,
    StoredReport,
)
from opscore_middleware.core.states import REPORTABLE, AgentState, InstanceView, fold
from opscore_middleware.errors import AgentIdMismatch, ConfigurationError, InvalidState

__all__ = [
    "CLOCK_TOLERANCE",
    "agent_from_record",
    "check_extra_states",
    "prepare_heartbeat",
    "prepare_report",
    "state_from_record",
]

CLOCK_TOLERANCE: Final = 60 * SECOND
"""How far a client's clock may be off before its time counts as the arrival, in microseconds."""


def check_extra_states(extra: Collection[str]) -> frozenset[str]:
    """Return the operator's additional states in lower case.

    Raises `ConfigurationError` for a name that is empty, not a plain word, or already ours.
    """
    states = frozenset(name.lower() for name in extra)
    for name in states:
        if not name.replace("-", "_").isidentifier() or len(name) > 64:
            raise ConfigurationError(
                f"Extra state {name!r} is not a plain word of at most 64 letters, digits, "
                "underscores or hyphens; rename it.",
                value=name,
            )
        if name in {state.lower() for state in AgentState}:
            raise ConfigurationError(
                f"Extra state {name!r} is one of Ops-Core's own; leave it out.", value=name
            )
    return states


def prepare_report(
    report: StateReport, *, agent_id: str, now: int, extra_states: frozenset[str] = frozenset()
) -> StoredReport:
    """Hold a report against the rules and make it ready to be written.

    `agent_id` is the one that the path names. Raises `AgentIdMismatch` when the body names
    another, and `InvalidState` for a state that nobody may report.
    """
    if report.agent_id != agent_id:
        raise AgentIdMismatch(
            f"The body's agentId {report.agent_id!r} is not the path's {agent_id!r}; "
            "send the report to the path of the agent it is about.",
            agent_id=agent_id,
            body_agent_id=report.agent_id,
        )
    state = report.state.lower()
    if state not in REPORTABLE and state not in extra_states:
        allowed = [*(s.value for s in AgentState if s in REPORTABLE), *sorted(extra_states)]
        raise InvalidState(
            f"State {report.state!r} may not be reported; use one of {', '.join(allowed)}. "
            "An operator can allow more with OPSCORE_EXTRA_STATES.",
            state=report.state,
            allowed=allowed,
        )
    timestamp = to_micros(report.timestamp)
    return StoredReport(
        agent_id=agent_id,
        instance_id=report.instance_id,
        sequence=report.sequence if report.instance_id is not None else None,
        state=state,
        details=_dump(report.details),
        timestamp=timestamp,
        effective_at=timestamp if abs(timestamp - now) <= CLOCK_TOLERANCE else now,
        received_at=now,
        started_at=None if report.started_at is None else to_micros(report.started_at),
        coalesced=report.coalesced,
        errors=report.errors,
    )


def prepare_heartbeat(beat: Heartbeat, *, agent_id: str, now: int) -> StoredHeartbeat:
    """Make a heartbeat ready to be written."""
    return StoredHeartbeat(
        agent_id=agent_id,
        instance_id=beat.instance_id,
        received_at=now,
        started_at=None if beat.started_at is None else to_micros(beat.started_at),
        interval=max(1, round(beat.interval_seconds * SECOND)),
        loop_lag=beat.loop_lag_seconds,
        in_flight=beat.in_flight,
    )


def agent_from_record(record: AgentRecord, mark: Watermark | None) -> Agent:
    """Fold an agent's instances and return it as it travels."""
    view, lost = _folded(record, mark)
    return Agent(
        agent_id=record.agent_id,
        agent_name=record.agent_name,
        version=record.version,
        capabilities=list(record.capabilities),
        contact_endpoint=record.contact_endpoint,
        metadata=_load(record.metadata),
        registered_at=from_micros(record.registered_at),
        deregister_after=(
            None if record.deregister_after is None else record.deregister_after / SECOND
        ),
        state=view.state,
        details=view.details,
        timestamp=view.timestamp,
        lost=lost,
        instances=[_instance(instance, mark) for instance in record.instances],
    )


def state_from_record(record: AgentRecord, mark: Watermark | None) -> AgentStateView:
    """Return the current state alone, taken from the instance that decides it."""
    return _folded(record, mark)[0]


def _folded(record: AgentRecord, mark: Watermark | None) -> tuple[AgentStateView, bool]:
    folded = fold(
        InstanceView(x.instance_id, x.state, from_micros(x.last_seen_at), is_lost(x, mark))
        for x in record.instances
    )
    if folded.position is None:
        details, timestamp = None, record.registered_at
    else:
        decisive = record.instances[folded.position]
        details, timestamp = _load(decisive.details), decisive.timestamp
    view = AgentStateView(
        agent_id=record.agent_id,
        state=folded.state,
        details=details,
        timestamp=from_micros(timestamp),
    )
    return view, folded.lost


def _instance(record: InstanceRecord, mark: Watermark | None) -> Instance:
    return Instance(
        instance_id=record.instance_id,
        state=record.state,
        details=_load(record.details),
        timestamp=from_micros(record.timestamp),
        sequence=record.sequence,
        started_at=None if record.started_at is None else from_micros(record.started_at),
        last_seen_at=from_micros(record.last_seen_at),
        contact_endpoint=record.contact_endpoint,
        liveness=liveness(record, mark),
        interval_seconds=None if record.interval is None else record.interval / SECOND,
        loop_lag_seconds=record.loop_lag,
        in_flight=record.in_flight,
    )


def _dump(value: dict[str, Any] | None) -> str | None:
    return None if value is None else to_json(value, inf_nan_mode="null").decode()


def _load(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    loaded: dict[str, Any] = json.loads(text)
    return loaded
