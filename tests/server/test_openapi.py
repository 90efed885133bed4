"""The API describes itself, also to whoever is offline."""

from __future__ import annotations

import re

from openapi_spec_validator import validate
from starlette.testclient import TestClient


def test_the_document_is_valid(client: TestClient) -> None:
    validate(client.get("/openapi.json").json())


def test_the_report_routes_are_documented_with_their_bodies_and_refusals(
    client: TestClient,
) -> None:
    document = client.get("/openapi.json").json()
    for path, model in (("state", "StateReport"), ("states", "Batch")):
        operation = document["paths"][f"/v1/opscore/agent/{{agentId}}/{path}"]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": f"#/components/schemas/{model}"}
        assert sorted(operation["responses"]) == [
            *("202", "400", "401", "403", "404", "410", "413", "422", "429", "503")
        ]
    report = document["components"]["schemas"]["StateReport"]["properties"]
    assert {"agentId", "timestamp", "state", "instanceId", "sequence"} <= set(report)


def test_every_operation_is_summed_up_in_a_sentence(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    said = {f"{m} {path}": one for path, ms in paths.items() for m, one in ms.items()}
    why = said["get /v1/opscore/tasks/{taskId}/why"]
    assert why["summary"] == "Say in one sentence why a task is not running, or is what it is"
    assert why["description"] == ""
    start = said["post /v1/opscore/agents"]
    assert start["summary"] == "Make an agent known without AgentKit"
    assert start["description"] == "The same name gets the same id again."
    for name, operation in said.items():
        assert " " in operation["summary"], name


def test_watching_is_documented_as_a_stream_and_as_a_wait(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    events = document["paths"]["/v1/opscore/events"]["get"]
    assert list(events["responses"]["200"]["content"]) == ["text/event-stream"]
    assert {parameter["name"] for parameter in events["parameters"]} == {
        *("agentId", "name", "state", "capability", "after", "Last-Event-ID")
    }
    assert "agentName" in document["components"]["schemas"]["AgentEvent"]["properties"]
    state = document["paths"]["/v1/opscore/agent/{agentId}/state"]["get"]
    assert {"wait", "after"} <= {parameter["name"] for parameter in state["parameters"]}
    answers = state["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]
    assert [answer["$ref"].rpartition("/")[2] for answer in answers] == [
        *("AgentStateView", "WatchedState")
    ]


def test_every_route_is_listed_with_its_methods(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {(method, path) for path, operations in paths.items() for method in operations} == {
        ("get", "/health"),
        ("get", "/ready"),
        ("get", "/metrics"),
        ("get", "/v1/opscore/agent/{agentId}/state"),
        ("post", "/v1/opscore/agent/{agentId}/state"),
        ("post", "/v1/opscore/agent/{agentId}/states"),
        ("get", "/v1/opscore/agents"),
        ("get", "/v1/opscore/fleet"),
        ("post", "/v1/opscore/agents"),
        ("get", "/v1/opscore/agents/{agentId}"),
        ("delete", "/v1/opscore/agents/{agentId}"),
        ("get", "/v1/opscore/agents/{agentId}/history"),
        ("post", "/v1/opscore/agent/{agentId}/heartbeat"),
        ("get", "/v1/opscore/events"),
        ("get", "/v1/opscore/sessions"),
        ("post", "/v1/opscore/sessions"),
        ("get", "/v1/opscore/sessions/{sessionId}"),
        ("patch", "/v1/opscore/sessions/{sessionId}"),
        ("post", "/v1/opscore/sessions/{sessionId}/cancel"),
        ("post", "/v1/opscore/sessions/{sessionId}/pause"),
        ("post", "/v1/opscore/sessions/{sessionId}/resume"),
        ("post", "/v1/opscore/sessions/{sessionId}/retry"),
        ("get", "/v1/opscore/workflows"),
        ("post", "/v1/opscore/workflows"),
        ("get", "/v1/opscore/workflows/schema"),
        ("get", "/v1/opscore/workflows/{workflowId}"),
        ("post", "/v1/opscore/agent/{agentId}/workflow"),
        ("get", "/v1/opscore/tasks"),
        ("post", "/v1/opscore/tasks/dead/replay"),
        ("get", "/v1/opscore/tasks/{taskId}"),
        ("get", "/v1/opscore/tasks/{taskId}/why"),
        ("post", "/v1/opscore/tasks/{taskId}/cancel"),
        ("post", "/v1/opscore/tasks/{taskId}/retry"),
        ("post", "/v1/opscore/tasks/{taskId}/result"),
        ("post", "/v1/opscore/tasks/{taskId}/progress"),
        ("post", "/v1/opscore/internal/agent/notify"),
    }


def test_the_document_says_that_a_key_is_needed_and_where_it_is_not(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    (needed,) = document["security"]
    assert document["components"]["securitySchemes"][next(iter(needed))]["scheme"] == "bearer"
    for path in ("/health", "/ready"):
        assert document["paths"][path]["get"]["security"] == []


def test_every_operation_has_a_name_of_its_own(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    names = [o["operationId"] for operations in paths.values() for o in operations.values()]
    assert len(set(names)) == len(names)
    assert {"report_state", "report_states", "register_agent", "get_agent_state"} <= set(names)


def test_the_docs_load_nothing_from_anywhere_else(client: TestClient) -> None:
    page = client.get("/docs").text
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert links
    for link in links:
        assert link.startswith("/")
        assert client.get(link).status_code == 200
    assert "'/openapi.json'" in page


def test_every_refusal_is_documented_as_json_whatever_the_route_answers_else(
    client: TestClient,
) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    refusals = [
        list(response["content"])
        for operations in paths.values()
        for operation in operations.values()
        for status, response in operation["responses"].items()
        if status >= "400"
    ]
    assert refusals
    assert all(content == ["application/json"] for content in refusals)
