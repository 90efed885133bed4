"""The client of Ops-Core for code without async."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from opscore_middleware.client.connection import TIMEOUT, Connection, checked_timeout
from opscore_middleware.client.deadline import extensions
from opscore_middleware.client.following import Following, Looking
from opscore_middleware.client.streams import Streams
from opscore_middleware.core.fleet import Fleet
from opscore_middleware.core.models import (
    Agent,
    AgentQuery,
    AgentStateView,
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
from opscore_middleware.core.own import Own
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
from opscore_middleware.core.watch import AgentEvent, WatchedState, WatchQuery
from opscore_middleware.protocol import calls
from opscore_middleware.protocol.call import Call

__all__ = ["OpsCoreClient"]

T = TypeVar("T")


class OpsCoreClient:
    """Calls Ops-Core. Use it in a `with` block, or close it.

    Args:
        api_url: where Ops-Core is, with or without `/v1`; else `OPSCORE_API_URL`, else
            `http://127.0.0.1:8000`.
        api_key: else `OPSCORE_API_KEY`; without either none is sent.
        timeout: how long a call may take in all, in seconds.
        transport: used instead of the network, for tests and proxies; by forked children, too.

    Every call raises `RemoteError` when Ops-Core refuses, with its status and code, and
    `RemoteUnavailable` when nobody answers.
    """

    def __init__(
        self,
        api_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection.resolve(api_url, api_key)
        self._timeout = checked_timeout(timeout)
        self._streams = Own(Streams)
        self._http = Own(lambda: self._connection.client(httpx.Client, timeout, transport))

    def __repr__(self) -> str:
        return f"OpsCoreClient({self._connection.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; whoever watches in another thread comes to an end."""
        self._streams().end()
        self._http().close()

    def health(self) -> dict[str, Any]:
        """Ask whether the server is there; returns its version, store and uptime."""
        return self._send(calls.health())

    def report_state(self, report: StateReport) -> StateAccepted:
        """Report one state of an agent; returns once it is on disk."""
        return self._send(calls.report_state(report))

    def report_states(self, agent_id: str, reports: Sequence[StateReport]) -> BatchAccepted:
        """Report up to 1,000 states of one agent, all or none."""
        return self._send(calls.report_states(agent_id, reports))

    def heartbeat(self, agent_id: str, beat: Heartbeat) -> HeartbeatAnswer:
        """Say that an instance lives; returns what Ops-Core knows of it."""
        return self._send(calls.heartbeat(agent_id, beat))

    def get_agent_state(self, agent_id: str) -> AgentStateView:
        """Return an agent's current state."""
        return self._send(calls.get_agent_state(agent_id))

    def register_agent(self, registration: Registration) -> Agent:
        """Make an agent known; the same name gets the same id again."""
        return self._send(calls.register_agent(registration))

    def deregister_agent(self, agent_id: str) -> None:
        """Take an agent out on purpose; registering it again brings it back."""
        return self._send(calls.deregister_agent(agent_id))

    def get_agent(self, agent_id: str) -> Agent:
        """Return one agent with its instances."""
        return self._send(calls.get_agent(agent_id))

    def list_agents(self, query: AgentQuery | None = None) -> Page[Agent]:
        """Return one page of the agents, by name."""
        return self._send(calls.list_agents(query))

    def history(self, agent_id: str, query: HistoryQuery | None = None) -> Page[Transition]:
        """Return one page of an agent's transitions, newest first unless told otherwise."""
        return self._send(calls.history(agent_id, query))

    def fleet(self) -> Fleet:
        """Return all agents at a glance."""
        return self._send(calls.fleet())

    def iter_agents(self, query: AgentQuery | None = None) -> Iterator[Agent]:
        """Go through all agents, page by page."""
        query = query or AgentQuery()
        while True:
            page = self.list_agents(query)
            yield from page.items
            if page.next_cursor is None:
                return
            query = query.model_copy(update={"cursor": page.next_cursor})

    def iter_history(
        self, agent_id: str, query: HistoryQuery | None = None
    ) -> Iterator[Transition]:
        """Go through all transitions of an agent, page by page."""
        query = query or HistoryQuery()
        while True:
            page = self.history(agent_id, query)
            yield from page.items
            if page.next_cursor is None:
                return
            query = query.model_copy(update={"cursor": page.next_cursor})

    def watch(self, query: WatchQuery | None = None) -> Iterator[AgentEvent]:
        """Go through events as they come, each once and in order, until the client is closed.

        From now on, where the query has no `after`. Once connected it connects again by itself,
        where it was. Raises `EventsGone` when that place is not kept any more.
        """
        following = Following(query or WatchQuery())
        while not self._streams().are_ended:
            call = following.call()
            http = self._http()
            try:
                with (
                    http.stream(
                        call.method,
                        call.path,
                        headers=dict(call.headers),
                        timeout=following.timeout(self._timeout),
                    ) as answer,
                    self._streams().reading(answer),
                ):
                    if following.is_stream(answer):
                        for piece in answer.iter_bytes():
                            yield from following.feed(piece)
                            if self._http() is not http:
                                break  # forked meanwhile: this stream is the parent's
                    else:
                        following.refuse(answer.status_code, answer.read())
            except httpx.RequestError as error:
                if not (following.has_begun or self._streams().are_ended):
                    raise self._connection.unavailable(call, error) from error
            self._streams().wait(following.delay())

    def wait_for_state(self, agent_id: str, state: str, *, timeout: float) -> WatchedState:
        """Wait until an agent is in a state and return it.

        A state that comes and goes between two looks is not seen; `watch` sees all of them.
        Raises `TimeoutError` after `timeout` seconds, with the state that it is in instead.
        """
        looking = Looking(agent_id, state, timeout)
        while not looking.is_found(seen := self._send(looking.call())):
            pass
        return seen

    def start_session(self, start: SessionStart) -> Session:
        """Start a session; with an id of its own it can be started again without harm."""
        return self._send(calls.start_session(start))

    def get_session(self, session_id: str) -> SessionView:
        """Return one session."""
        return self._send(calls.get_session(session_id))

    def list_sessions(self, query: SessionQuery | None = None) -> Page[Session]:
        """Return one page of the sessions, newest first."""
        return self._send(calls.list_sessions(query))

    def update_session(self, session_id: str, change: SessionChange) -> Session:
        """Change a session; what `change` leaves out stays as it is."""
        return self._send(calls.update_session(session_id, change))

    def iter_sessions(self, query: SessionQuery | None = None) -> Iterator[Session]:
        """Go through all sessions, page by page."""
        query = query or SessionQuery()
        while True:
            page = self.list_sessions(query)
            yield from page.items
            if page.next_cursor is None:
                return
            query = query.model_copy(update={"cursor": page.next_cursor})

    def cancel_session(self, session_id: str) -> Session:
        """End a session and its tasks; agents that work on them are told."""
        return self._send(calls.cancel_session(session_id))

    def pause_session(self, session_id: str) -> Session:
        """Give out no more tasks of a session; those that are out go on."""
        return self._send(calls.pause_session(session_id))

    def resume_session(self, session_id: str) -> Session:
        """Go on with a session that was paused."""
        return self._send(calls.resume_session(session_id))

    def retry_session(self, session_id: str) -> Session:
        """Try the tasks of a session again that failed, and what comes after them."""
        return self._send(calls.retry_session(session_id))

    def put_workflow(self, definition: Mapping[str, Any]) -> WorkflowView:
        """Keep a definition, as a new version where its id has another one."""
        return self._send(calls.put_workflow(definition))

    def get_workflow(self, workflow_id: str, *, version: int | None = None) -> WorkflowView:
        """Return a version of a definition, the latest unless told."""
        return self._send(calls.get_workflow(workflow_id, version=version))

    def list_workflows(self, query: WorkflowQuery | None = None) -> Page[WorkflowView]:
        """Return one page of the definitions, the latest version of each, by id."""
        return self._send(calls.list_workflows(query))

    def iter_workflows(self, query: WorkflowQuery | None = None) -> Iterator[WorkflowView]:
        """Go through all definitions, page by page."""
        query = query or WorkflowQuery()
        while True:
            page = self.list_workflows(query)
            yield from page.items
            if page.next_cursor is None:
                return
            query = query.model_copy(update={"cursor": page.next_cursor})

    def start_workflow(
        self, agent_id: str, start: WorkflowStart, *, idempotency_key: str | None = None
    ) -> WorkflowStarted:
        """Start a workflow; under one key it starts once, however often it is asked for."""
        return self._send(calls.start_workflow(agent_id, start, idempotency_key=idempotency_key))

    def list_tasks(self, query: TaskQuery | None = None) -> Page[TaskView]:
        """Return one page of the tasks, newest first."""
        return self._send(calls.list_tasks(query))

    def iter_tasks(self, query: TaskQuery | None = None) -> Iterator[TaskView]:
        """Go through all tasks, page by page."""
        query = query or TaskQuery()
        while True:
            page = self.list_tasks(query)
            yield from page.items
            if page.next_cursor is None:
                return
            query = query.model_copy(update={"cursor": page.next_cursor})

    def get_task(self, task_id: str) -> TaskView:
        """Return one task."""
        return self._send(calls.get_task(task_id))

    def why_task(self, task_id: str) -> Why:
        """Return why a task is not running, or is what it is, in one sentence."""
        return self._send(calls.why_task(task_id))

    def cancel_task(self, task_id: str) -> TaskView:
        """End a task; an agent that works on it is told."""
        return self._send(calls.cancel_task(task_id))

    def retry_task(self, task_id: str) -> TaskView:
        """Try a task again that failed, and what comes after it."""
        return self._send(calls.retry_task(task_id))

    def end_task(self, attempt_id: str, result: TaskResult) -> TaskView:
        """Say how an attempt ended; `attempt_id` is the `opscore_task_id` that came with it."""
        return self._send(calls.end_task(attempt_id, result))

    def progress_task(self, attempt_id: str, progress: TaskProgress) -> TaskView:
        """Say how far an attempt is."""
        return self._send(calls.progress_task(attempt_id, progress))

    def replay_dead_tasks(self) -> Replayed:
        """Try all tasks again that sessions failed for; returns how many they are."""
        return self._send(calls.replay_dead_tasks())

    def _send(self, call: Call[T]) -> T:
        try:
            answer = self._http().request(
                call.method,
                call.path,
                content=call.body,
                headers=dict(call.headers),
                extensions=extensions(self._timeout + call.wait),
            )
        except httpx.RequestError as error:
            raise self._connection.unavailable(call, error) from error
        return call.result(answer.status_code, answer.content)
