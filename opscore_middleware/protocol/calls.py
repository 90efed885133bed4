"""Every call to Ops-Core as a value: method, path, body and how to read the answer.

The sync and the async client, the reporter and the command line all send these; none of them
builds a path of its own.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

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
from opscore_middleware.core.sessions import Session, SessionChange, SessionQuery, SessionStart
from opscore_middleware.core.watch import StateQuery, WatchedState, WatchQuery
from opscore_middleware.errors import RemoteError

__all__ = [
    "Call",
    "deregister_agent",
    "fleet",
    "get_agent",
    "get_agent_state",
    "get_session",
    "health",
    "heartbeat",
    "history",
    "list_agents",
    "list_sessions",
    "next_agent_state",
    "ops_core_refusal",
    "register_agent",
    "report_state",
    "report_states",
    "start_session",
    "update_session",
    "watch",
]

T = TypeVar("T")
PREFIX = "/v1/opscore"


def ops_core_refusal(call: Call[Any], status: int, body: bytes) -> RemoteError | None:
    """Return what an answer of Ops-Core says went wrong, or None for a 2xx."""
    if 200 <= status < 300:
        return None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    detail = answer.get("detail") if isinstance(answer, dict) else None
    code = answer.get("code") if isinstance(answer, dict) else None
    return RemoteError(
        f"{call.method} {call.path} answered {status}: {detail or 'no reason given'}",
        remote_status=status,
        remote_code=code if isinstance(code, str) else None,
    )


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request; `decode` turns the body of a 2xx answer into its result.

    `answers` holds the other statuses that are an answer too, and what each means. `refusal`
    knows how the server words its errors, and returns None where there is none. `wait` is how long
    the server was asked to leave it open, in seconds.
    """

    method: str
    path: str
    decode: Callable[[bytes], T]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    server: str = "Ops-Core"
    answers: Mapping[int, T] = field(default_factory=dict)
    refusal: Callable[[Call[Any], int, bytes], RemoteError | None] = ops_core_refusal
    wait: float = 0.0

    def result(self, status: int, body: bytes) -> T:
        """Read an answer. Raises `RemoteError` for anything but one in the documented shape."""
        if status in self.answers:
            return self.answers[status]
        refused = self.refusal(self, status, body)
        if refused is not None:
            raise refused
        try:
            return self.decode(body)
        except ValueError:
            raise RemoteError(
                f"{self.method} {self.path} answered {status} with something that is not "
                f"{self.server}'s; check the address.",
                remote_status=status,
                remote_code=None,
            ) from None


def health() -> Call[dict[str, Any]]:
    """`GET /health`: is the server there, which version, which store."""
    return Call("GET", "/health", TypeAdapter(dict[str, Any]).validate_json)


def report_state(report: StateReport) -> Call[StateAccepted]:
    """Report one transition."""
    path = f"{PREFIX}/agent/{_segment(report.agent_id)}/state"
    return _post(path, _dump(report), StateAccepted)


def report_states(agent_id: str, reports: Sequence[StateReport]) -> Call[BatchAccepted]:
    """Report up to 1,000 transitions of one agent, all or none."""
    body = _dump(Batch(reports=list(reports)))
    return _post(f"{PREFIX}/agent/{_segment(agent_id)}/states", body, BatchAccepted)


def heartbeat(agent_id: str, beat: Heartbeat) -> Call[HeartbeatAnswer]:
    """Say that an instance lives."""
    return _post(f"{PREFIX}/agent/{_segment(agent_id)}/heartbeat", _dump(beat), HeartbeatAnswer)


def get_agent_state(agent_id: str) -> Call[AgentStateView]:
    """Read an agent's current state."""
    return _get(f"{PREFIX}/agent/{_segment(agent_id)}/state", AgentStateView)


def next_agent_state(agent_id: str, query: StateQuery) -> Call[WatchedState]:
    """Read an agent's state once it has an event after the given one, or has waited enough."""
    call = _get(f"{PREFIX}/agent/{_segment(agent_id)}/state{_query(query)}", WatchedState)
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
    return Call("DELETE", f"{PREFIX}/agents/{_segment(agent_id)}", _nothing)


def get_agent(agent_id: str) -> Call[Agent]:
    """Read one agent with its instances."""
    return _get(f"{PREFIX}/agents/{_segment(agent_id)}", Agent)


def list_agents(query: AgentQuery | None = None) -> Call[Page[Agent]]:
    """List agents, a page at a time."""
    return _get(f"{PREFIX}/agents{_query(query)}", Page[Agent])


def history(agent_id: str, query: HistoryQuery | None = None) -> Call[Page[Transition]]:
    """List an agent's transitions, a page at a time."""
    path = f"{PREFIX}/agents/{_segment(agent_id)}/history{_query(query)}"
    return _get(path, Page[Transition])


def fleet() -> Call[Fleet]:
    """Read all agents at a glance."""
    return _get(f"{PREFIX}/fleet", Fleet)


def start_session(start: SessionStart) -> Call[Session]:
    """Start a session; with an id of its own it can be started again without harm."""
    return _post(f"{PREFIX}/sessions", _dump(start), Session)


def get_session(session_id: str) -> Call[Session]:
    """Read one session."""
    return _get(f"{PREFIX}/sessions/{_segment(session_id)}", Session)


def list_sessions(query: SessionQuery | None = None) -> Call[Page[Session]]:
    """List sessions, newest first, a page at a time."""
    return _get(f"{PREFIX}/sessions{_query(query)}", Page[Session])


def update_session(session_id: str, change: SessionChange) -> Call[Session]:
    """Change a session: what is set in `change`, None too, becomes so; the rest stays."""
    body = change.model_dump_json(by_alias=True, exclude_unset=True).encode()
    return _send("PATCH", f"{PREFIX}/sessions/{_segment(session_id)}", body, Session)


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


def _send(method: str, path: str, body: bytes, model: type[T]) -> Call[T]:
    headers = {"Content-Type": "application/json"}
    return Call(method, path, _reader(model).validate_json, body, headers)


def _dump(model: BaseModel) -> bytes:
    return model.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def _segment(value: str) -> str:
    # Plain dots would be taken for a step to another path, on the way or by our own HTTP client.
    return "%2E" * len(value) if value in {".", ".."} else quote(value, safe="")


def _query(query: BaseModel | None) -> str:
    if query is None:
        return ""
    given = query.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return f"?{urlencode(given)}" if given else ""
