"""Agents on the ACP SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from acp_sdk.models import Message, MessageAwaitRequest, MessagePart
from acp_sdk.server import agent, create_app
from starlette.testclient import TestClient

from tests.agent.support import ScriptedOpsCore, watched
from tests.frameworks.easel import EASEL, LIFE, Easel


@agent()
async def painter(input: list[Message]) -> AsyncIterator[Any]:  # noqa: A002 # ACP calls it so
    """Paint what it is asked to."""
    what = input[0].parts[0].content
    if what == "ask":
        question = Message(role="agent", parts=[MessagePart(content="what?")])
        answer = yield MessageAwaitRequest(message=question)
        what = answer.message.parts[0].content
    yield MessagePart(content=await anyio.to_thread.run_sync(EASEL.paint, what))


def say(what: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"content": what}]}


def run(client: TestClient, what: str, mode: str = "async") -> str:
    body = {"agent_name": "painter", "mode": mode, "input": [say(what)]}
    answer = client.post("/runs", json={**body, "opscore_task_id": "t-1.1"})
    assert answer.status_code == (202 if mode == "async" else 200), answer.text
    return str(answer.headers["Run-ID"])


def test_a_run_is_active_after_its_request_and_ends_the_task(
    easel: Easel, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(watched(create_app(painter), ops_core)) as client:
        run(client, "wait")
        ops_core.wait_for(*LIFE, "active")
        easel.may_go_on.set()
        reports = ops_core.wait_for(*LIFE, "active", "idle")
    end = {"opscore_task_id": "t-1.1", "opscore_task_state": "completed"}
    assert reports[-1]["details"] == end


def test_a_run_that_its_request_waits_for_ends_the_task_with_the_answer(
    ops_core: ScriptedOpsCore,
) -> None:
    with TestClient(watched(create_app(painter), ops_core)) as client:
        run(client, "sky", "sync")
        end = ops_core.wait_for_end("t-1.1")
    assert end["opscore_task_state"] == "completed"
    assert end["opscore_task_result"]["status"] == "completed"


def test_a_run_that_fails_is_told_and_fails_the_task(ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(create_app(painter), ops_core)) as client:
        run(client, "fail")
        reports = ops_core.wait_for(*LIFE, "active", "error")
    details = reports[-1]["details"]
    error = {"type": "ACP failed", "message": "no ink", "where": "agent painter"}
    assert error.items() <= details["error"].items()  # and the trace, where there is one
    assert details["opscore_task_state"] == "failed"


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_run_that_awaits_an_answer_is_no_work_and_ends_the_task_later(
    mode: str, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(watched(create_app(painter), ops_core)) as client:
        run_id = run(client, "ask", mode)
        reports = ops_core.wait_for(*LIFE, "active", "idle")
        assert reports[-1]["details"] == {}
        resume = {"type": "message", "message": say("sky")}
        client.post(
            f"/runs/{run_id}", json={"run_id": run_id, "await_resume": resume, "mode": "async"}
        )
        assert ops_core.wait_for_end("t-1.1")["opscore_task_state"] == "completed"


def test_a_run_that_is_cancelled_ends_no_task(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(create_app(painter), ops_core)) as client:
        run_id = run(client, "ask")
        ops_core.wait_for(*LIFE, "active", "idle")
        client.post(f"/runs/{run_id}/cancel", json={})
    assert "error" not in ops_core.states
    assert not any("opscore_task_state" in report["details"] for report in ops_core.reports)


def test_switched_off_it_counts_by_its_requests(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    agent_ = watched(create_app(painter), ops_core, integrations=["-acp"])
    with TestClient(agent_) as client:
        run(client, "wait")
        ops_core.wait_for(*LIFE, "active", "idle")
        easel.may_go_on.set()
    assert ops_core.states == [*LIFE, "active", "idle", "draining", "finished"]
