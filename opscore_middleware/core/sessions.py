"""Sessions: one piece of work of an agent, from its start to one of three ends."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from pydantic import Field, model_validator

from opscore_middleware.core.models import AgentId, Name, Query, Utc, Wire
from opscore_middleware.core.written import Written
from opscore_middleware.errors import Conflict, SessionEnded

__all__ = [
    "TERMINAL",
    "Session",
    "SessionChange",
    "SessionId",
    "SessionQuery",
    "SessionStart",
    "SessionState",
    "changed",
]

SessionId = AgentId  # one segment of a path, too


class SessionState(StrEnum):
    """The life of a session."""

    STARTED = "started"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED})
"""The states that a session never leaves, unless somebody retries its workflow."""

_DECIDED_BY_TASKS: Final = frozenset({"state", "result", "error"})


class SessionStart(Written):
    """What a session is started with. An id that is given makes a repeated start harmless."""

    agent_id: AgentId
    session_id: SessionId | None = None
    workflow_id: Name | None = None
    metadata: dict[str, Any] | None = None


class SessionChange(Written):
    """What is new about a session; what is left out stays as it is."""

    state: SessionState | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> SessionChange:
        if not self.model_fields_set:
            raise ValueError("name at least one of state, result, error and metadata")
        return self


class Session(Wire):
    """A session; `ended_at` is set by its terminal state, and by nothing else.

    `workflow_version` says that it runs a workflow, whose tasks then decide on its state.
    """

    session_id: str
    agent_id: str
    workflow_id: str | None = None
    workflow_version: int | None = None
    initial_payload: dict[str, Any] | None = None
    state: SessionState
    result: Any = None
    error: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    created_at: Utc
    updated_at: Utc
    ended_at: Utc | None = None


class SessionQuery(Query):
    """Which sessions to list, newest first."""

    agent_id: str | None = None
    state: SessionState | None = None
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None


def changed(session: Session, change: SessionChange, now: Utc) -> Session:
    """Return the session after a change.

    A change that says what is so already changes nothing, so that it can be repeated. Raises
    `SessionEnded` for any other change of a session that is over, and `Conflict` for one that is
    not for anybody to make but the tasks of its workflow.
    """
    new = {name: getattr(change, name) for name in change.model_fields_set}
    if new.get("state", ...) is None:
        del new["state"]
    if all(getattr(session, name) == value for name, value in new.items()):
        return session
    if session.state in TERMINAL:
        raise _over(session)
    if session.workflow_version is not None and not new.keys().isdisjoint(_DECIDED_BY_TASKS):
        raise Conflict(
            f"Session {session.session_id!r} runs workflow {session.workflow_id!r}, and its tasks "
            "decide what becomes of it. POST to /cancel, /pause, /resume or /retry of the session "
            "instead; its metadata can be changed here.",
            session_id=session.session_id,
            workflow_id=session.workflow_id,
        )
    # How long a workflow is paused is reckoned from its last update.
    is_paused = session.workflow_version is not None and session.state is SessionState.PAUSED
    ends = new.get("state") in TERMINAL
    moments = {
        "updated_at": session.updated_at if is_paused else now,
        "ended_at": now if ends else None,
    }
    return session.model_copy(update={**new, **moments})


def _over(session: Session) -> SessionEnded:
    hint = "Start a new session."
    if session.workflow_version is not None and session.state is not SessionState.COMPLETED:
        hint = f"POST /v1/opscore/sessions/{session.session_id}/retry has it go on."
    return SessionEnded(
        f"Session {session.session_id!r} is {session.state} since "
        f"{session.ended_at or session.updated_at}; what is over is not changed. {hint}",
        session_id=session.session_id,
        state=session.state.value,
    )
