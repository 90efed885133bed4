"""Every call to Ops-Core as a value: method, path, body and how to read the answer.

The sync and the async client and the command line all send these; none of them builds a path of
its own. An agent's own are in `protocol.reporting`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, TypeAdapter

from opscore_middleware.core.fleet import Fleet
from opscore_middleware.core.models import (
    Agent,
    AgentQuery,
    AgentStateView,
    Batch,
    BatchAccepted,
    Heartbeat,
    HeartbeatAnswer,
    HistoryQuery,
    Page,
    Registration,
    StateAccepted,
    StateReport,
    Transition,
)
from opscore_middleware.core.runs.views import (
    Replayed,
    SessionView,
    TaskProgress,
    TaskQuery,
    TaskResult,
    TaskView,
    Why,
    WorkflowQuery,
    WorkflowStart,
    WorkflowStarted,
    WorkflowView,
)
from opscore_middleware.core.sessions import Session, SessionChange, SessionQuery, SessionStart
from opscore_middleware.core.watch import StateQuery, WatchedState, WatchQuery
from opscore_middleware.errors import InvalidInput
from opscore_middleware.protocol.arguments import (
    as_segment,
    checked_idempotency_key,
    checked_query,
    checked_version,
)
from opscore_middleware.protocol.call import JSON, PREFIX, Call

__all__ = [
    "cancel_session",
    "cancel_task",
    "deregister_agent",
    "end_task",
    "fleet",
    "get_agent",
    "get_agent_state",
    "get_session",
    "get_task",
    "get_workflow",
    "health",
    "heartbeat",
    "history",
    "list_agents",
    "list_sessions",
    "list_tasks",
    "list_workflows",
    "next_agent_state",
    "pause_session",
    "progress_task",
    "put_workflow",
    "register_agent",
    "replay_dead_tasks",
    "report_state",
    "report_states",
    "resume_session",
    "retry_session",
    "retry_task",
    "start_session",
    "start_workflow",
    "update_session",
    "watch",
    "why_task",
]

T = TypeVar("T")


def health() -> Call[dict[str, Any]]:
    """`GET /health`: is the server there, which version, which store."""
    return Call("GET", "/health", TypeAdapter(dict[str, Any]).validate_json)


def report_state(report: StateReport) -> Call[StateAccepted]:
    """Report one transition."""
    path = f"{PREFIX}/agent/{as_segment(report.agent_id, 'agent_id')}/state"
    return _post(path, _dump(report), StateAccepted)


def report_states(agent_id: str, reports: Sequence[StateReport]) -> Call[BatchAccepted]:
    """Report up to 1,000 transitions of one agent, all or none."""
    body = _dump(Batch(reports=list(reports)))
    return _post(f"{PREFIX}/agent/{as_segment(agent_id, 'agent_id')}/states", body, BatchAccepted)


def heartbeat(agent_id: str, beat: Heartbeat) -> Call[HeartbeatAnswer]:
    """Say that an instance lives."""
    return _post(
        f"{PREFIX}/agent/{as_segment(agent_id, 'agent_id')}/heartbeat", _dump(beat), HeartbeatAnswer
    )


def get_agent_state(agent_id: str) -> Call[AgentStateView]:
    """Read an agent's current state."""
    return _get(f"{PREFIX}/agent/{as_segment(agent_id, 'agent_id')}/state", AgentStateView)


def next_agent_state(agent_id: str, query: StateQuery) -> Call[WatchedState]:
    """Read an agent's state once it has an event after the given one, or has waited enough."""
    call = _get(
        f"{PREFIX}/agent/{as_segment(agent_id, 'agent_id')}/state{_query(query)}", WatchedState
    )
    return replace(call, wait=query.wait or 0.0)


def watch(query: WatchQuery) -> Call[bytes]:
    """Watch events as they come; the answer is a stream of them that has no end."""
    headers = {"Accept": "text/event-stream"}
    return Call("GET", f"{PREFIX}/events{_query(query)}", bytes, headers=headers)


def register_agent(registration: Registration) -> Call[Agent]:
    """Make an agent known without AgentKit; the same name gets the same id again."""
    return _post(f"{PREFIX}/agents", _dump(registration), Agent)


def deregister_agent(agent_id: str) -> Call[None]:
    """Take an agent out on purpose; again is fine."""
    return Call("DELETE", f"{PREFIX}/agents/{as_segment(agent_id, 'agent_id')}", _nothing)


def get_agent(agent_id: str) -> Call[Agent]:
    """Read one agent with its instances."""
    return _get(f"{PREFIX}/agents/{as_segment(agent_id, 'agent_id')}", Agent)


def list_agents(query: AgentQuery | None = None) -> Call[Page[Agent]]:
    """List agents, a page at a time."""
    return _get(f"{PREFIX}/agents{_query(query)}", Page[Agent])


def history(agent_id: str, query: HistoryQuery | None = None) -> Call[Page[Transition]]:
    """List an agent's transitions, a page at a time."""
    path = f"{PREFIX}/agents/{as_segment(agent_id, 'agent_id')}/history{_query(query)}"
    return _get(path, Page[Transition])


def fleet() -> Call[Fleet]:
    """Read all agents at a glance."""
    return _get(f"{PREFIX}/fleet", Fleet)


def start_session(start: SessionStart) -> Call[Session]:
    """Start a session; with an id of its own it can be started again without harm."""
    return _post(f"{PREFIX}/sessions", _dump(start), Session)


def get_session(session_id: str) -> Call[SessionView]:
    """Read one session."""
    return _get(f"{PREFIX}/sessions/{as_segment(session_id, 'session_id')}", SessionView)


def list_sessions(query: SessionQuery | None = None) -> Call[Page[Session]]:
    """List sessions, newest first, a page at a time."""
    return _get(f"{PREFIX}/sessions{_query(query)}", Page[Session])


def update_session(session_id: str, change: SessionChange) -> Call[Session]:
    """Change a session: what is set in `change`, None too, becomes so; the rest stays."""
    body = _written(change, exclude_unset=True)
    return _send(
        "PATCH", f"{PREFIX}/sessions/{as_segment(session_id, 'session_id')}", body, Session
    )


def cancel_session(session_id: str) -> Call[Session]:
    """End a session and its tasks; agents that work on them are told."""
    return _order(f"{PREFIX}/sessions/{as_segment(session_id, 'session_id')}/cancel", Session)


def pause_session(session_id: str) -> Call[Session]:
    """Give out no more tasks of a session; those that are out go on."""
    return _order(f"{PREFIX}/sessions/{as_segment(session_id, 'session_id')}/pause", Session)


def resume_session(session_id: str) -> Call[Session]:
    """Go on with a session that was paused."""
    return _order(f"{PREFIX}/sessions/{as_segment(session_id, 'session_id')}/resume", Session)


def retry_session(session_id: str) -> Call[Session]:
    """Try the tasks of a session again that failed, and what comes after them."""
    return _order(f"{PREFIX}/sessions/{as_segment(session_id, 'session_id')}/retry", Session)


def put_workflow(definition: Mapping[str, Any]) -> Call[WorkflowView]:
    """Keep a definition, as a new version where its id has another one."""
    try:
        body = json.dumps(definition).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_json("The definition", error) from None
    return _post(f"{PREFIX}/workflows", body, WorkflowView)


def get_workflow(workflow_id: str, *, version: int | None = None) -> Call[WorkflowView]:
    """Read a version of a definition, the latest unless told."""
    query = "" if version is None else f"?version={checked_version(version)}"
    return _get(f"{PREFIX}/workflows/{as_segment(workflow_id, 'workflow_id')}{query}", WorkflowView)


def list_workflows(query: WorkflowQuery | None = None) -> Call[Page[WorkflowView]]:
    """List the latest version of each definition, a page at a time."""
    return _get(f"{PREFIX}/workflows{_query(query)}", Page[WorkflowView])


def start_workflow(
    agent_id: str, start: WorkflowStart, *, idempotency_key: str | None = None
) -> Call[WorkflowStarted]:
    """Start a workflow; under one key it starts once, however often it is asked for."""
    path = f"{PREFIX}/agent/{as_segment(agent_id, 'agent_id')}/workflow"
    call = _post(path, _dump(start), WorkflowStarted)
    if idempotency_key is None:
        return call
    key = checked_idempotency_key(idempotency_key)
    return replace(call, headers={**call.headers, "Idempotency-Key": key})


def list_tasks(query: TaskQuery | None = None) -> Call[Page[TaskView]]:
    """List tasks, newest first, a page at a time."""
    return _get(f"{PREFIX}/tasks{_query(query)}", Page[TaskView])


def get_task(task_id: str) -> Call[TaskView]:
    """Read one task."""
    return _get(f"{PREFIX}/tasks/{as_segment(task_id, 'task_id')}", TaskView)


def why_task(task_id: str) -> Call[Why]:
    """Ask why a task is not running, or is what it is."""
    return _get(f"{PREFIX}/tasks/{as_segment(task_id, 'task_id')}/why", Why)


def cancel_task(task_id: str) -> Call[TaskView]:
    """End a task; an agent that works on it is told."""
    return _order(f"{PREFIX}/tasks/{as_segment(task_id, 'task_id')}/cancel", TaskView)


def retry_task(task_id: str) -> Call[TaskView]:
    """Try a task again that failed, and what comes after it."""
    return _order(f"{PREFIX}/tasks/{as_segment(task_id, 'task_id')}/retry", TaskView)


def end_task(attempt_id: str, result: TaskResult) -> Call[TaskView]:
    """Say how an attempt ended."""
    return _post(
        f"{PREFIX}/tasks/{as_segment(attempt_id, 'attempt_id')}/result", _dump(result), TaskView
    )


def progress_task(attempt_id: str, progress: TaskProgress) -> Call[TaskView]:
    """Say how far an attempt is."""
    return _post(
        f"{PREFIX}/tasks/{as_segment(attempt_id, 'attempt_id')}/progress", _dump(progress), TaskView
    )


def replay_dead_tasks() -> Call[Replayed]:
    """Try all tasks again that sessions failed for."""
    return _order(f"{PREFIX}/tasks/dead/replay", Replayed)


def _nothing(_body: bytes) -> None:
    return None


def _reader(model: type[T]) -> TypeAdapter[T]:
    """Return the model's reader, built once: that costs more than all else about a call."""
    return _build_reader(model)  # type: ignore[arg-type] # classes are hashable, mypy doubts it


@functools.cache
def _build_reader(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _get(path: str, model: type[T]) -> Call[T]:
    return Call("GET", path, _reader(model).validate_json)


def _post(path: str, body: bytes, model: type[T]) -> Call[T]:
    return _send("POST", path, body, model)


def _order(path: str, model: type[T]) -> Call[T]:
    return Call("POST", path, _reader(model).validate_json)


def _send(method: str, path: str, body: bytes, model: type[T]) -> Call[T]:
    return Call(method, path, _reader(model).validate_json, body, JSON)


def _dump(model: BaseModel) -> bytes:
    return _written(model, exclude_defaults=True)


def _written(
    model: BaseModel, *, exclude_defaults: bool = False, exclude_unset: bool = False
) -> bytes:
    try:
        return model.model_dump_json(
            by_alias=True, exclude_defaults=exclude_defaults, exclude_unset=exclude_unset
        ).encode()
    except (ValueError, RecursionError) as error:
        raise _no_json(f"The {type(model).__name__}", error) from None


def _no_json(what: str, error: Exception) -> InvalidInput:
    return InvalidInput(
        f"{what} cannot be written as JSON: {error}. Make it of objects, lists, texts, numbers, "
        "True, False and None."
    )


def _query(query: BaseModel | None) -> str:
    if query is None:
        return ""
    given = query.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    encoded = checked_query(urlencode(given, errors="surrogatepass"), given)
    return f"?{encoded}" if encoded else ""
