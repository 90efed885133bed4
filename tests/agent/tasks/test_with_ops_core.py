"""Tasks on their way from an Ops-Core to handlers and back, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from opscore_middleware import OpsCoreMiddleware, TaskContext, TaskRouter
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.runs.views import TaskQuery, WorkflowStart
from opscore_middleware.testing import RunningOpsCore, run_opscore
from tests.support.waiting import wait_until

tasks = TaskRouter()
stopped = threading.Event()


@tasks.task("summarise")
async def summarise(text: str, task: TaskContext) -> dict[str, str]:
    await task.progress(0.5, "read")
    return {"summary": text[:3]}


@tasks.task("refuse")
async def refuse() -> None:
    raise HTTPException(404, "no such page")


@tasks.task("wait")
async def wait() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        stopped.set()


@contextmanager
def serving(opscore: RunningOpsCore) -> Iterator[str]:
    """Serve an agent with these handlers; returns its id."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[tasks.route("/task")])
    app.add_middleware(
        OpsCoreMiddleware,
        api_url=opscore.url,
        api_key=opscore.api_key,
        agent_name="worker",
        capabilities=tasks.names,
        contact_endpoint=f"http://127.0.0.1:{listening.getsockname()[1]}/task",
        heartbeat_interval=0.1,
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        opscore.wait_for("worker", "idle")
        yield opscore.agent("worker").agent_id
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[tuple[OpsCoreClient, str]]:
    with run_opscore() as opscore, serving(opscore) as agent_id:
        yield opscore.client, agent_id


def start(client: OpsCoreClient, agent_id: str, name: str, **payload: Any) -> str:
    """Start a workflow of one task; returns its session."""
    definition = {"id": f"only-{name}", "name": name, "tasks": [{"taskId": "one", "name": name}]}
    begin = WorkflowStart(workflow_definition=definition, initial_payload=payload)
    return client.start_workflow(agent_id, begin).session_id


def only_task(client: OpsCoreClient, session_id: str) -> Any:
    (task,) = client.list_tasks(TaskQuery(session_id=session_id)).items
    return task


def ended(client: OpsCoreClient, session_id: str) -> Any:
    """Wait until the session's task has ended, and return it."""

    def over() -> Any:
        task = only_task(client, session_id)
        return task if task.state in {"completed", "failed", "cancelled"} else None

    return wait_until(over, message="the task to end")


def test_a_task_comes_back_with_its_result(
    worker: tuple[OpsCoreClient, str],
) -> None:
    client, agent_id = worker
    task = ended(client, start(client, agent_id, "summarise", text="ink is wet"))
    assert (task.state, task.result) == ("completed", {"summary": "ink"})


def test_a_task_that_is_refused_fails_at_once_and_says_why(
    worker: tuple[OpsCoreClient, str],
) -> None:
    client, agent_id = worker
    task = ended(client, start(client, agent_id, "refuse"))
    assert (task.state, task.attempts) == ("failed", 1)
    assert task.error["message"] == "no such page"
    assert task.error["status"] == 404


def test_parameters_that_do_not_fit_fail_the_task_for_good(
    worker: tuple[OpsCoreClient, str],
) -> None:
    client, agent_id = worker
    task = ended(client, start(client, agent_id, "summarise", page=3))
    assert (task.state, task.attempts) == ("failed", 1)


def test_a_task_that_is_cancelled_stops_in_the_agent(worker: tuple[OpsCoreClient, str]) -> None:
    client, agent_id = worker
    stopped.clear()
    session_id = start(client, agent_id, "wait")
    running = wait_until(
        lambda: [t for t in [only_task(client, session_id)] if t.state == "running"],
        message="the task to be done",
    )
    client.cancel_task(running[0].task_id)
    assert stopped.wait(10)
