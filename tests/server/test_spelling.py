"""Names that are misspelled are refused with what was meant; what others may add is let through."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import Response
from starlette.testclient import TestClient

from tests.server.conftest import report_of

AGENT = {"agentName": "summarizer"}


def faults(answer: Response) -> list[tuple[list[str], str]]:
    """The place and the message of each fault."""
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "validation_failed"
    return [(fault["loc"], fault["msg"]) for fault in answer.json()["detail"]]


def no_such(meant: str) -> str:
    return f"there is no such name here; did you mean {meant}?"


@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("/agents?Limit=1", "Limit", no_such("limit")),
        ("/agents?limti=1", "limti", no_such("limit")),
        ("/agents?capabilities=c", "capabilities", no_such("capability")),
        ("/tasks?session_id=s", "session_id", no_such("sessionId")),
        ("/sessions?agent=a", "agent", no_such("agentId")),
        ("/events?agentid=a", "agentid", no_such("agentId")),
        ("/workflows/w?v=1", "v", "there is no such name here, only version"),
        ("/fleet?state=idle", "state", "there is no such name here, only none at all"),
    ],
)
def test_a_parameter_that_a_route_does_not_know_is_refused(
    client: TestClient, path: str, name: str, said: str
) -> None:
    assert faults(client.get(f"/v1/opscore{path}")) == [(["query", name], said)]


def test_a_post_takes_no_parameter_that_it_does_not_know(client: TestClient) -> None:
    answer = client.post("/v1/opscore/tasks/dead/replay?dry=1")
    assert faults(answer) == [(["query", "dry"], "there is no such name here, only none at all")]


@pytest.mark.parametrize(
    ("method", "path", "body", "name", "said"),
    [
        ("POST", "/sessions", {"agentId": "a", "metdata": {}}, "metdata", no_such("metadata")),
        ("PATCH", "/sessions/s", {"stat": "failed"}, "stat", no_such("state")),
        ("POST", "/tasks/t/result", {"results": 1}, "results", no_such("result")),
        (
            *("POST", "/tasks/t/result", {"output": 1}, "output"),
            "there is no such name here, only error, result",
        ),
        ("POST", "/tasks/t/progress", {"progress": 1, "mesage": ""}, "mesage", no_such("message")),
        ("POST", "/agents", {**AGENT, "capability": ["c"]}, "capability", no_such("capabilities")),
        ("POST", "/agents", {**AGENT, "endpoint": ""}, "endpoint", no_such("contactEndpoint")),
        (
            *("POST", "/agent/a/workflow", {"workflowDefinitionId": "w", "initialpayload": {}}),
            *("initialpayload", no_such("initialPayload")),
        ),
        (
            *("POST", "/agent/a/workflow", {"workflowDefinitionId": "w", "payload": {}}),
            *("payload", no_such("initialPayload")),
        ),
    ],
)
def test_a_field_that_is_misspelled_is_refused(
    client: TestClient, method: str, path: str, body: Any, name: str, said: str
) -> None:
    answer = client.request(method, f"/v1/opscore{path}", json=body)
    assert (["body", name], said) in faults(answer)


def test_names_in_snake_case_are_names_too(client: TestClient) -> None:
    body = {"agent_name": "summarizer", "contact_endpoint": "http://127.0.0.1:9/task"}
    assert client.post("/v1/opscore/agents", json=body).status_code == 201


def test_agents_and_clients_of_agentkit_s_may_say_more(client: TestClient, agent_id: str) -> None:
    more: dict[str, Any] = {"colour": "red", "x": 1}
    agent = client.post("/v1/opscore/agents", json={**AGENT, **more})
    assert agent.status_code == 200
    path = f"/v1/opscore/agent/{agent_id}"
    assert client.post(f"{path}/state?trace=1", json=report_of(agent_id, **more)).status_code == 202
    assert client.get(f"{path}/state?trace=1").status_code == 200
    definition = {"id": "w", "name": "W", "tasks": [{"taskId": "a", "name": "A"}]}
    start = {"workflowDefinition": definition, "initialPayload": {}, "payload": {}, **more}
    assert client.post(f"{path}/workflow?trace=1", json=start).status_code == 202
