"""What an attempt looks like as it travels: AgentKit's message, and headers that say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from opscore_middleware.agentkit import Message
from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.runs.tasks import Task, attempt_id

__all__ = ["headers_of", "message_of"]

_UNFIT: Final = re.compile("[\x00-\x1f\x7f]+")


def message_of(task: Task, *, now: int) -> Message:
    """Return the message that carries an attempt, the same by either route."""
    return Message(
        timestamp=from_micros(now),
        payload=_payload(task.parameters),
        session_context={"sessionId": task.session_id, "priorMessages": []},
        task_name=task.name,
        opscore_session_id=task.session_id,
        opscore_task_id=attempt_id(task),
    )


def headers_of(task: Task) -> Sequence[tuple[bytes, bytes]]:
    """Return what the straight route says in headers too, in UTF-8."""
    said = {
        b"Content-Type": "application/json",
        b"X-OpsCore-Task-Id": attempt_id(task),
        b"X-OpsCore-Session-Id": task.session_id,
        b"X-OpsCore-Task-Name": task.name,
        b"X-OpsCore-Capability": task.capability or "",
    }
    fit = ((name, _UNFIT.sub(" ", value).strip().encode()) for name, value in said.items())
    return [(name, value) for name, value in fit if value]


def _payload(parameters: str | None) -> dict[str, Any]:
    payload = json.loads(parameters or "{}")
    return payload if isinstance(payload, dict) else {"parameters": payload}
