"""Agents on the A2A Python SDK."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandlerV2
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.server.routes.jsonrpc_routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    Part,
    Task,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import (
    A2AError,
    ContentTypeNotSupportedError,
    InternalError,
    InvalidParamsError,
)
from starlette.applications import Starlette
from starlette.testclient import TestClient

from opscore_middleware.agent.rpc import is_work
from tests.agent.support import ScriptedOpsCore, watched

LIFE = ["initializing", "idle"]
Work = Callable[[TaskUpdater], Coroutine[Any, Any, None]]


class Executor(AgentExecutor):
    """Does what a test wants done."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def execute(self, context: Any, event_queue: Any) -> None:
        status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
        task = Task(id=context.task_id, context_id=context.context_id, status=status)
        await event_queue.enqueue_event(task)
        await self._work(TaskUpdater(event_queue, context.task_id, context.context_id))

    async def cancel(self, context: Any, event_queue: Any) -> None:
        raise NotImplementedError


def a2a_agent(work: Work, executor: type[Executor] = Executor) -> Starlette:
    card = AgentCard(
        name="tested",
        version="1",
        capabilities=AgentCapabilities(streaming=True),
        supported_interfaces=[AgentInterface(url="http://a/", protocol_binding="JSONRPC")],
    )
    handler = DefaultRequestHandlerV2(executor(work), InMemoryTaskStore(), card)
    return Starlette(routes=create_jsonrpc_routes(handler, "/"))


def call(client: TestClient, method: str = "SendMessage", **configuration: Any) -> None:
    message = {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": "draw"}]}
    answer = client.post(
        "/",
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": method,
            "params": {"message": message, "configuration": configuration},
        },
        headers={"A2A-Version": "1.0", "X-OpsCore-Task-Id": "t-1.1"},
    )
    assert answer.status_code == 200, answer.text


async def completes(updater: TaskUpdater) -> None:
    await updater.complete()


async def fails(updater: TaskUpdater) -> None:
    await updater.failed(updater.new_agent_message([Part(text="no ink")]))


async def rejects(updater: TaskUpdater) -> None:
    await updater.reject()


async def raises(_updater: TaskUpdater) -> None:
    raise ValueError("no ink")


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
def test_an_execution_is_one_stretch_of_work_and_ends_the_task(
    method: str, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(watched(a2a_agent(completes), ops_core)) as client:
        call(client, method)
        assert ops_core.wait_for_end("t-1.1")["opscore_task_state"] == "completed"
    # The response may be a little longer in coming than the work, and the task's end with it.
    states = [state for state, _ in itertools.groupby(ops_core.states)]
    assert states == [*LIFE, "active", "idle", "draining", "finished"]


@pytest.mark.parametrize(
    ("work", "kind", "message"),
    [
        (fails, "A2A TASK_STATE_FAILED", "no ink"),
        (rejects, "A2A TASK_STATE_REJECTED", "no message given"),
        (raises, "ValueError", "no ink"),
    ],
)
@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
def test_an_execution_that_fails_is_one_failure_and_fails_the_task(
    work: Work, kind: str, message: str, method: str, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(watched(a2a_agent(work), ops_core)) as client:
        call(client, method)
        reports = ops_core.wait_for(*LIFE, "active", "error")
    details = reports[-1]["details"]
    error = {"type": kind, "message": message, "where": "Executor.execute"}
    assert error.items() <= details["error"].items()  # and the trace, where there is one
    assert details["opscore_task_state"] == "failed"


@pytest.mark.parametrize(
    ("error", "status"),
    [(InvalidParamsError, 400), (ContentTypeNotSupportedError, 400), (InternalError, 500)],
)
@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
def test_a_refusal_is_no_failure_of_the_agent_and_fails_the_task(
    error: type[A2AError], status: int, method: str, ops_core: ScriptedOpsCore
) -> None:
    async def refuses(_updater: TaskUpdater) -> None:
        raise error("which ink?")

    with TestClient(watched(a2a_agent(refuses), ops_core)) as client:
        call(client, method)
        end = ops_core.wait_for_end("t-1.1")
    assert ("error" in ops_core.states) is (status >= 500)
    assert end["opscore_task_state"] == "failed"
    assert end.get("opscore_task_status", 500) == status
    told = {"type": error.__name__, "message": "which ink?", "where": "Executor.execute"}
    assert told.items() <= end["error"].items()


def test_work_that_goes_on_after_the_answer_counts_and_ends_the_task(
    ops_core: ScriptedOpsCore,
) -> None:
    go_on = asyncio.Event()

    async def works(updater: TaskUpdater) -> None:
        await updater.start_work()
        await go_on.wait()
        await updater.complete()

    with TestClient(watched(a2a_agent(works), ops_core)) as client:
        call(client, returnImmediately=True)
        assert ops_core.wait_for(*LIFE, "active")
        assert client.portal is not None
        client.portal.call(go_on.set)
        reports = ops_core.wait_for(*LIFE, "active", "idle")
    assert reports[-1]["details"]["opscore_task_state"] == "completed"


@pytest.mark.parametrize(
    ("first", "state"),
    [
        (TaskState.TASK_STATE_SUBMITTED, None),
        (TaskState.TASK_STATE_COMPLETED, "TASK_STATE_COMPLETED"),
    ],
)
def test_what_was_answered_before_the_work_was_done_is_no_result(
    first: Any, state: str | None, ops_core: ScriptedOpsCore
) -> None:
    class Quick(Executor):
        async def execute(self, context: Any, event_queue: Any) -> None:
            task = Task(id=context.task_id, context_id=context.context_id)
            task.status.state = first
            await event_queue.enqueue_event(task)

    with TestClient(watched(a2a_agent(completes, Quick), ops_core)) as client:
        call(client, returnImmediately=True)
        end = ops_core.wait_for_end("t-1.1")
    assert end["opscore_task_state"] == "completed"
    result = end.get("opscore_task_result", {"result": {"task": {"status": {"state": None}}}})
    assert result["result"]["task"]["status"]["state"] == state


def test_switched_off_it_counts_by_its_requests(ops_core: ScriptedOpsCore) -> None:
    go_on = asyncio.Event()

    async def works(updater: TaskUpdater) -> None:
        await updater.start_work()
        await go_on.wait()
        await updater.complete()

    agent = watched(a2a_agent(works), ops_core, integrations=["-a2a"])
    with TestClient(agent) as client:
        call(client, returnImmediately=True)
        ops_core.wait_for(*LIFE, "active", "idle")
        assert client.portal is not None
        client.portal.call(go_on.set)
    assert ops_core.states == [*LIFE, "active", "idle", "draining", "finished"]


@pytest.mark.parametrize("method", sorted(JsonRpcDispatcher.METHOD_TO_MODEL))
def test_of_all_that_a_client_may_ask_for_messages_alone_are_work(method: str) -> None:
    """A subscription stays open while its task waits for input, and shows the failure of others."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method}
    sends = method in {"SendMessage", "SendStreamingMessage"}
    assert is_work(json.dumps(request).encode()) is sends
