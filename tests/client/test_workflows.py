"""Workflows, their sessions and tasks through both clients, against a real Ops-Core."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Registration
from opscore_middleware.core.runs.views import (
    SessionView,
    TaskProgress,
    TaskQuery,
    TaskResult,
    TaskView,
    WorkflowQuery,
    WorkflowStart,
    WorkflowView,
)
from opscore_middleware.errors import RemoteError
from tests.client.test_sessions import asking
from tests.support.processes import OpsCoreProcess
from tests.support.waiting import wait_until, wait_until_async
from tests.support.working_agents import working_agent

pytestmark = pytest.mark.anyio


def definition(capability: str, **fields: Any) -> dict[str, Any]:
    """Return a workflow of one task, under an id of its own."""
    task = {"taskId": "only", "name": "do", "agentCapability": capability, **fields}
    return {"id": f"w-{uuid4()}", "name": "W", "tasks": [task]}


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_definitions_are_kept_by_version(opscore: OpsCoreProcess, kind: str) -> None:
    first = definition("a")
    async with asking(opscore, kind) as ask:
        kept: WorkflowView = await ask("put_workflow", first)
        assert (kept.workflow_id, kept.version, kept.name) == (first["id"], 1, "W")
        assert (await ask("put_workflow", {**first, "name": "V"})).version == 2
        assert (await ask("get_workflow", first["id"])).name == "V"
        listed = await ask("list_workflows", WorkflowQuery(limit=1000))
        assert [w.version for w in listed.items if w.workflow_id == first["id"]] == [2]
        with pytest.raises(RemoteError) as raised:
            await ask("put_workflow", {**first, "tasks": []})
        assert (raised.value.remote_status, raised.value.remote_code) == (422, "invalid_definition")
        assert "tasks: must not be empty" in raised.value.message


def test_all_definitions_are_gone_through_page_by_page(opscore: OpsCoreProcess) -> None:
    with OpsCoreClient(opscore.url, opscore.api_key) as client:
        ids = {client.put_workflow(definition("a")).workflow_id for _ in range(3)}
        found = [kept.workflow_id for kept in client.iter_workflows(WorkflowQuery(limit=1))]
        assert ids <= set(found)
        assert len(found) == len(set(found))
        one = client.get_workflow(found[0], version=1)
        assert one.version == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_task_from_its_start_to_its_result(opscore: OpsCoreProcess, kind: str) -> None:
    capability = f"c-{uuid4()}"
    attempts: list[str] = []
    with OpsCoreClient(opscore.url, opscore.api_key) as client:

        def do(_name: str, parameters: Any) -> Any:
            return {"said": parameters["words"]}

        with working_agent(client, f"agent-{uuid4()}", capability, do=do) as agent_id:
            async with asking(opscore, kind) as ask:
                start = WorkflowStart(
                    workflow_definition=definition(capability), initial_payload={"words": [1]}
                )
                started = await ask("start_workflow", agent_id, start)

                async def over() -> bool:
                    session: SessionView = await ask("get_session", started.session_id)
                    return session.state == "completed"

                await wait_until_async(over)
                session: SessionView = await ask("get_session", started.session_id)
                assert session.progress is not None
                assert (session.progress["total"], session.progress["completed"]) == (1, 1)
                assert session.initial_payload == {"words": [1]}
                page = await ask("list_tasks", TaskQuery(session_id=started.session_id))
                (task,) = page.items
                assert (task.result, task.assigned_agent_id) == ({"said": [1]}, agent_id)
                assert await ask("get_task", task.task_id) == task
                attempts.append(f"{task.task_id}.{task.attempt}")
                result = TaskResult(result={"said": [1]})
                again: TaskView = await ask("end_task", attempts[0], result)
                assert again == task
                progress = TaskProgress(progress=0.5, message="half")
                with pytest.raises(RemoteError) as raised:
                    await ask("progress_task", attempts[0], progress)
                assert raised.value.remote_status == 409


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_session_is_steered(opscore: OpsCoreProcess, kind: str) -> None:
    async with asking(opscore, kind) as ask:
        agent = await ask("register_agent", Registration(agent_name=f"agent-{uuid4()}"))
        start = WorkflowStart(workflow_definition=definition(f"c-{uuid4()}"))
        session_id = (await ask("start_workflow", agent.agent_id, start)).session_id
        assert (await ask("pause_session", session_id)).state == "paused"
        assert (await ask("resume_session", session_id)).state == "started"
        (task,) = (await ask("list_tasks", TaskQuery(session_id=session_id))).items
        why = await ask("why_task", task.task_id)
        assert (why.task_id, why.state) == (task.task_id, "ready")
        assert "No agent has capability" in why.why
        assert (await ask("cancel_task", task.task_id)).state == "cancelled"
        assert (await ask("retry_task", task.task_id)).state == "ready"
        assert (await ask("cancel_session", session_id)).state == "cancelled"
        assert (await ask("retry_session", session_id)).state == "running"
        await ask("cancel_session", session_id)
        assert (await ask("replay_dead_tasks")).replayed == 0


def test_one_key_starts_one_session(opscore: OpsCoreProcess) -> None:
    with OpsCoreClient(opscore.url, opscore.api_key) as client:
        agent_id = client.register_agent(Registration(agent_name=f"agent-{uuid4()}")).agent_id
        start = WorkflowStart(
            workflow_definition=definition(f"c-{uuid4()}"),
            run_at=datetime.now(UTC) + timedelta(days=1),
        )
        key = str(uuid4())
        first, again = (
            client.start_workflow(agent_id, start, idempotency_key=key).session_id for _ in range(2)
        )
        assert first == again
        assert client.start_workflow(agent_id, start).session_id != first
        with pytest.raises(RemoteError) as raised:
            client.start_workflow(agent_id, WorkflowStart(), idempotency_key=key)
        assert raised.value.remote_status == 422


def test_an_agent_says_how_far_it_is(opscore: OpsCoreProcess) -> None:
    capability = f"c-{uuid4()}"
    with OpsCoreClient(opscore.url, opscore.api_key) as client:

        def do(_name: str, _parameters: Any) -> Any:
            (task,) = client.iter_tasks(TaskQuery(capability=capability))
            told = client.progress_task(
                f"{task.task_id}.{task.attempt}", TaskProgress(progress=0.25, message="a quarter")
            )
            return [told.state, told.progress, told.progress_message]

        with working_agent(client, f"agent-{uuid4()}", capability, do=do) as agent_id:
            start = WorkflowStart(workflow_definition=definition(capability))
            session_id = client.start_workflow(agent_id, start).session_id
            wait_until(lambda: client.get_session(session_id).state == "completed")
        (task,) = client.iter_tasks(TaskQuery(session_id=session_id))
        assert task.result == ["running", 0.25, "a quarter"]
