"""Every workflow that a page shows is right and runs to its end, and every field is told of."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from opscore_middleware.core.runs.views import TaskQuery, WorkflowStart
from opscore_middleware.core.sessions import TERMINAL
from opscore_middleware.core.workflows.definition import (
    Retry,
    TaskDefinition,
    Timeouts,
    WorkflowDefinition,
)
from opscore_middleware.core.workflows.validation import check
from opscore_middleware.notations.cron import next_run
from opscore_middleware.notations.documents import read_document
from opscore_middleware.notations.expressions import JmesPath
from opscore_middleware.testing import RunningOpsCore
from tests.docs.pages import ROOT, Block, Page, pages
from tests.support.waiting import wait_until
from tests.support.working_agents import working_agent

PAGE = Page(ROOT / "docs" / "workflows.md")
SHOWN = [
    pytest.param(block, id=f"{page.name}:{block.line}")
    for page in pages()
    for block in page.blocks("yaml")
    if "taskId:" in block.code
]


def test_the_page_shows_workflows() -> None:
    assert len(SHOWN) >= 7


@pytest.mark.parametrize("block", SHOWN)
def test_a_workflow_that_is_shown_is_right(block: Block) -> None:
    found = check(read_document(block.code).value, expressions=JmesPath(), cron=next_run)
    assert [f"{fault.path}: {fault.message}" for fault in found] == []


def do(_name: str, _parameters: Any) -> Any:
    """Find whatever the workflows of the pages ask for."""
    return {
        "articles": [{"text": "wet"}, {"text": "dry"}],
        "confidence": 0.9,
        "sources": ["a", "b"],
        "text": "It rains.",
        "url": "http://127.0.0.1/rain.png",
    }


@pytest.mark.parametrize("block", SHOWN)
def test_a_workflow_that_is_shown_runs_to_its_end(block: Block, opscore: RunningOpsCore) -> None:
    definition = read_document(block.code).value
    tasks = definition["tasks"]
    for task in tasks:
        if "delay" in task:
            task["delay"] = "10ms"
    capabilities = {task["agentCapability"] for task in tasks if "agentCapability" in task}
    named = {task["agentId"] for task in [definition, *tasks] if "agentId" in task}
    with ExitStack() as agents:
        for agent_id in named:
            agents.enter_context(working_agent(opscore.client, agent_id, do=do, agent_id=agent_id))
        host = agents.enter_context(working_agent(opscore.client, "host", *capabilities, do=do))
        start = WorkflowStart(workflow_definition=definition, initial_payload={"topic": "rain"})
        session_id = opscore.client.start_workflow(host, start).session_id
        wait_until(lambda: opscore.client.get_session(session_id).state in TERMINAL)
    session = opscore.client.get_session(session_id)
    assert session.state == "completed", session.error
    ended = {task.state for task in opscore.client.iter_tasks(TaskQuery(session_id=session_id))}
    assert ended <= {"completed", "skipped"}


@pytest.mark.parametrize("model", [WorkflowDefinition, TaskDefinition, Retry, Timeouts])
def test_every_field_is_told_of(model: type) -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE.text, re.MULTILINE))
    fields = {to_camel(name) for name in model.model_fields}
    assert fields <= told
