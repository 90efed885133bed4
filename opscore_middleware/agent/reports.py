"""What travels of transitions, and what of it can be left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opscore_middleware.agent.outbox import Entry
from opscore_middleware.agent.results import DROPPED, RESULT
from opscore_middleware.agent.view import View
from opscore_middleware.protocol import reporting

__all__ = ["as_heartbeat", "as_reports", "barer_than"]

_LAST: Final = ("opscore_task_id", "opscore_task_state", DROPPED)  # what a task's end needs


def barer_than(entry: Entry) -> Entry | None:
    """Return a report with less in its details, the task last; None where they hold nothing."""
    details = entry.details
    if not details:
        return None
    kept: dict[str, Any] = {key: details[key] for key in _LAST if key in details}
    if RESULT in details:
        kept[DROPPED] = True
    return entry._replace(details=kept if kept != details else None)


def as_reports(agent_id: str, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return transitions of one agent as they travel."""
    instance = entries[0].instance
    started_at = reporting.moment(instance.started_at)
    reports = []
    for entry in entries:
        if entry.instance is not instance:
            instance = entry.instance
            started_at = reporting.moment(instance.started_at)
        report = reporting.state_report(
            agent_id,
            at=entry.at,
            state=entry.state.value,
            details=entry.details or {},
            instance_id=instance.instance_id,
            started_at=started_at,
            sequence=entry.sequence,
            coalesced=entry.coalesced,
            errors=entry.errors,
        )
        reports.append(report)
    return reports


def as_heartbeat(view: View, interval: float, lag: float | None) -> dict[str, Any]:
    """Return a sign of life as it travels; both times are in seconds."""
    beat: dict[str, Any] = {
        "instanceId": view.instance.instance_id,
        "startedAt": reporting.moment(view.instance.started_at),
        "state": view.state.value,
        "sequence": view.sequence,
        "intervalSeconds": interval,
        "inFlight": view.in_flight,
    }
    return beat if lag is None else {**beat, "loopLagSeconds": lag}
