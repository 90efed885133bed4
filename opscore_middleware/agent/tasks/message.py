"""What Ops-Core sends with a task, straight or through AgentKit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["TaskMessage", "faults", "read_message"]


class TaskMessage(BaseModel):
    """A task as it is forwarded; what it has beyond these fields is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    message_type: Literal["workflow_task"] = Field("workflow_task", alias="messageType")
    payload: dict[str, Any] = Field(default_factory=dict)
    task_name: str | None = None
    opscore_session_id: str | None = None
    opscore_task_id: str | None = None


def read_message(body: bytes, headers: Mapping[str, str]) -> TaskMessage:
    """Read a task; what its body leaves out may stand in the headers.

    Raises `pydantic.ValidationError` where the body is no such message.
    """
    message = TaskMessage.model_validate_json(body)
    said = {
        "task_name": message.task_name or headers.get("x-opscore-task-name"),
        "opscore_session_id": message.opscore_session_id or headers.get("x-opscore-session-id"),
        "opscore_task_id": message.opscore_task_id or headers.get("x-opscore-task-id"),
    }
    return message.model_copy(update=said)


def faults(refused: ValidationError) -> list[dict[str, Any]]:
    """Return what does not fit, each with its place and without the value."""
    found = refused.errors(include_url=False, include_context=False, include_input=False)
    return [dict(fault) for fault in found]
