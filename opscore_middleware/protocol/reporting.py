"""What an agent says to Ops-Core while it works, as calls: made of plain values.

`protocol.calls` has the same calls for whoever uses models; those cost an agent two megabytes, and
several times the time for a report, which is the host's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic_core import to_json

from opscore_middleware.core.names import is_agent_id
from opscore_middleware.protocol.call import JSON, PREFIX, Call, segment

__all__ = [
    "BeatAnswer",
    "heartbeat",
    "moment",
    "progress_task",
    "register_agent",
    "report_state",
    "report_states",
    "state_report",
]


class BeatAnswer(NamedTuple):
    """What Ops-Core knows of an instance, and what it asks of it; see `HeartbeatAnswer`."""

    last_sequence: int
    interval_seconds: float
    drain: bool
    cancel: Sequence[str]


def moment(at: float) -> str:
    """Return a time in seconds since the epoch as it travels."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def state_report(
    agent_id: str,
    *,
    at: float,
    state: str,
    details: Mapping[str, Any],
    instance_id: str,
    started_at: str,
    sequence: int,
    coalesced: int,
    errors: int,
) -> dict[str, Any]:
    """Return one report as it travels; `at` is in seconds since the epoch, `started_at` as
    `moment` returns it.
    """
    report = {
        "agentId": agent_id,
        "timestamp": moment(at),
        "state": state,
        "details": details,
        "instanceId": instance_id,
        "startedAt": started_at,
        "sequence": sequence,
    }
    if coalesced:
        report["coalesced"] = coalesced
    if errors:
        report["errors"] = errors
    return report


def report_state(report: Mapping[str, Any]) -> Call[None]:
    """Report one transition."""
    return _post(f"{PREFIX}/agent/{segment(report['agentId'])}/state", report)


def report_states(agent_id: str, reports: Iterable[Mapping[str, Any]]) -> Call[None]:
    """Report up to 1,000 transitions of one agent, all or none."""
    return _post(f"{PREFIX}/agent/{segment(agent_id)}/states", {"reports": list(reports)})


def heartbeat(agent_id: str, beat: Mapping[str, Any]) -> Call[BeatAnswer]:
    """Say that an instance lives."""
    path = f"{PREFIX}/agent/{segment(agent_id)}/heartbeat"
    return Call("POST", path, _beat_answer, _json(beat), JSON)


def register_agent(registration: Mapping[str, Any]) -> Call[str]:
    """Make an agent known; the result is its id, the same again for the same name."""
    return Call("POST", f"{PREFIX}/agents", _agent_id, _json(registration), JSON)


def progress_task(attempt_id: str, progress: float, message: str | None) -> Call[None]:
    """Say how far an attempt is."""
    told: dict[str, Any] = {"progress": progress}
    if message is not None:
        told["message"] = message
    return _post(f"{PREFIX}/tasks/{segment(attempt_id)}/progress", told)


def _post(path: str, body: Mapping[str, Any]) -> Call[None]:
    return Call("POST", path, _nothing, _json(body), JSON)


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError):
        # What a host has put into details and JSON has no word for. Not for all of them: loading
        # it costs an agent more memory than all that it tells.
        return to_json(body, inf_nan_mode="null")


def _nothing(_body: bytes) -> None:
    return None


def _agent_id(body: bytes) -> str:
    agent_id = _object(body).get("agentId")
    if not isinstance(agent_id, str) or not is_agent_id(agent_id):
        raise ValueError("no agent")
    return agent_id


def _beat_answer(body: bytes) -> BeatAnswer:
    said = _object(body)
    sequence, interval = said.get("lastSequence"), said.get("intervalSeconds")
    cancel = said.get("cancel", [])
    if not isinstance(sequence, int) or not isinstance(interval, int | float):
        raise ValueError("no answer to a heartbeat")
    if not isinstance(cancel, list) or not all(isinstance(task_id, str) for task_id in cancel):
        raise ValueError("no list of attempts")
    return BeatAnswer(sequence, float(interval), said.get("drain") is True, cancel)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value
