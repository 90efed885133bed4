"""AgentOS of Agno."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from agno.agent import Agent
from agno.db.in_memory import InMemoryDb
from agno.models.base import Model
from agno.models.response import ModelResponse
from agno.os import AgentOS
from agno.team import Team
from agno.workflow import Step, StepOutput, Workflow
from agno.workflow.types import HumanReview, OnError
from starlette.testclient import TestClient

from tests.agent.support import ScriptedOpsCore, watched
from tests.frameworks.easel import EASEL, Easel
from tests.support.waiting import TIMEOUT, wait_until


@dataclass
class Painter(Model):
    """A model that paints what it is told to last."""

    id: str = "painter"

    async def ainvoke(self, *_args: Any, messages: Any = (), **_more: Any) -> ModelResponse:
        painted = await asyncio.to_thread(EASEL.paint, messages[-1].content)
        return ModelResponse(role="assistant", content=painted)

    async def ainvoke_stream(self, *args: Any, **more: Any) -> AsyncIterator[ModelResponse]:
        yield await self.ainvoke(*args, **more)

    def invoke(self, *_args: Any, **_more: Any) -> Any:
        raise NotImplementedError

    invoke_stream = invoke

    def _parse_provider_response(self, response: Any, **_more: Any) -> Any:
        return response

    _parse_provider_response_delta = _parse_provider_response


async def paint(given: Any) -> StepOutput:
    return StepOutput(content=await asyncio.to_thread(EASEL.paint, given.input))


def agent_os() -> Any:
    common: dict[str, Any] = {"db": InMemoryDb(), "telemetry": False}
    painter = Agent(id="one", name="Painter", model=Painter(), **common)
    school = Team(id="one", name="School", members=[painter], model=Painter(), **common)
    failing = HumanReview(on_error=OnError.fail)
    steps: Any = [Step(name="paint", executor=paint, max_retries=0, human_review=failing)]
    press = Workflow(id="one", name="Press", steps=steps, **common)
    return AgentOS(agents=[painter], teams=[school], workflows=[press], telemetry=False).get_app()


def run(client: TestClient, kind: str, what: str, *, background: bool = True) -> Any:
    form = {"message": what, "background": str(background), "stream": "false"}
    answer = client.post(f"/{kind}s/one/runs", data=form)
    assert answer.status_code == (202 if background else 200), answer.text
    return answer.json()


KINDS = ("agent", "team", "workflow")


@pytest.mark.parametrize("kind", KINDS)
def test_a_background_run_is_active_until_it_is_done(
    kind: str, easel: Easel, ops_core: ScriptedOpsCore
) -> None:
    agent = watched(agent_os(), ops_core)
    with TestClient(agent) as client:
        run(client, kind, "wait")
        assert easel.has_begun.wait(TIMEOUT)
        assert agent.state == "active"
        easel.may_go_on.set()
        wait_until(lambda: agent.state == "idle", message="the end of the run")
    assert "error" not in ops_core.states


@pytest.mark.parametrize(
    ("kind", "where"),
    [("agent", "agent Painter"), ("team", "team School"), ("workflow", "workflow Press")],
)
def test_a_background_run_that_fails_is_told(
    kind: str, where: str, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(watched(agent_os(), ops_core)) as client:
        run(client, kind, "fail")
        wait_until(lambda: "error" in ops_core.states, message="the failure of the run")
    (report,) = [report for report in ops_core.reports if report["state"] == "error"]
    error = report["details"]["error"]
    assert error["where"] == where
    assert "no ink" in error["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_the_foreground_is_a_request(
    kind: str, easel: Easel, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(watched(agent_os(), ops_core)) as client:
        assert run(client, kind, "sky", background=False)["content"] == "sky painted"
    states = [*("initializing", "idle"), *("active", "idle"), *("draining", "finished")]
    assert ops_core.states == states


def test_a_background_run_that_is_cancelled_is_no_failure(
    easel: Easel, ops_core: ScriptedOpsCore
) -> None:
    agent = watched(agent_os(), ops_core)
    with TestClient(agent) as client:
        run_id = run(client, "agent", "wait")["run_id"]
        assert easel.has_begun.wait(TIMEOUT)
        assert client.post(f"/agents/one/runs/{run_id}/cancel").is_success
        easel.may_go_on.set()
        wait_until(lambda: agent.state == "idle", message="the end of the run")
    assert "error" not in ops_core.states


def test_switched_off_it_counts_by_its_requests(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    agent = watched(agent_os(), ops_core, integrations=["-agno"])
    with TestClient(agent) as client:
        run(client, "agent", "wait")
        assert easel.has_begun.wait(TIMEOUT)
        assert agent.state == "idle"
        easel.may_go_on.set()
