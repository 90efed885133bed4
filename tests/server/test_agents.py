"""Registering agents, and looking at them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import register, report_of


def test_a_new_agent_gets_an_id_and_the_same_name_gets_it_again(client: TestClient) -> None:
    body = {
        "agentName": "summarizer",
        "version": "1.2",
        "capabilities": ["summarize"],
        "contactEndpoint": "http://127.0.0.1:9/task",
        "metadata": {"team": "news"},
    }
    first = client.post("/v1/opscore/agents", json=body)
    assert first.status_code == 201
    assert {name: first.json()[name] for name in body} == body
    assert (first.json()["state"], first.json()["instances"]) == ("UNKNOWN", [])
    second = client.post("/v1/opscore/agents", json=body)
    assert second.status_code == 200
    assert second.json()["agentId"] == first.json()["agentId"]


def test_an_id_of_the_agents_own_is_kept(client: TestClient) -> None:
    assert register(client, agentId="from-agentkit") == "from-agentkit"
    assert client.get("/v1/opscore/agents/from-agentkit").json()["agentName"] == "summarizer"


BAD_REGISTRATIONS: dict[str, bytes] = {
    "no name": b"{}",
    "an empty name": b'{"agentName":""}',
    "a name with a NUL": rb'{"agentName":"a\u0000b"}',
    "a name with a line break": rb'{"agentName":"a\nb"}',
    "an id with a slash": b'{"agentName":"a","agentId":"a/b"}',
    "an id that is a step in a path": b'{"agentName":"a","agentId":".."}',
    "a version with a NUL": rb'{"agentName":"a","version":"1\u0000"}',
    "an endpoint that is no address": b'{"agentName":"a","contactEndpoint":"ftp://x"}',
    "an endpoint with a NUL": rb'{"agentName":"a","contactEndpoint":"http://x/\u0000"}',
    "a lone surrogate in metadata": rb'{"agentName":"a","metadata":{"x":"\ud800"}}',
    "not UTF-8": b'{"agentName":"a\xff"}',
    "not JSON": b"agentName=a",
    "deeply nested": b'{"agentName":"a","metadata":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "capabilities that are no list": b'{"agentName":"a","capabilities":"x"}',
}


@pytest.mark.parametrize("case", BAD_REGISTRATIONS)
def test_a_bad_registration_is_refused_and_stores_nothing(client: TestClient, case: str) -> None:
    answer = client.post("/v1/opscore/agents", content=BAD_REGISTRATIONS[case])
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert client.get("/v1/opscore/agents").json()["items"] == []


def test_agents_are_listed_by_name_and_found_by_name_state_and_capability(
    client: TestClient,
) -> None:
    busy = register(client, "writer", capabilities=["write"])
    register(client, "editor", capabilities=["write", "edit"])
    client.post(f"/v1/opscore/agent/{busy}/state", json=report_of(busy, "active"))

    def names(query: str) -> list[str]:
        items = client.get(f"/v1/opscore/agents?{query}").json()["items"]
        return [item["agentName"] for item in items]

    assert names("") == ["editor", "writer"]
    assert names("name=writer") == ["writer"]
    assert names("state=Active") == ["writer"]
    assert names("capability=write") == ["editor", "writer"]
    assert names("capability=edit&state=active") == []


def test_pages_of_agents_miss_none_and_repeat_none(client: TestClient) -> None:
    for n in range(5):
        register(client, f"agent-{n}")
    seen: list[str] = []
    query = "limit=2"
    while query:
        page = client.get(f"/v1/opscore/agents?{query}").json()
        seen += [item["agentName"] for item in page["items"]]
        query = f"limit=2&cursor={page['nextCursor']}" if page["nextCursor"] else ""
    assert seen == [f"agent-{n}" for n in range(5)]


def test_history_is_newest_first_or_as_asked_and_comes_in_pages(
    client: TestClient, agent_id: str
) -> None:
    for n, state in enumerate(["initializing", "idle", "active"], start=1):
        report = report_of(agent_id, state, instanceId="i", sequence=n, details={"n": n})
        client.post(f"/v1/opscore/agent/{agent_id}/state", json=report)
    path = f"/v1/opscore/agents/{agent_id}/history"
    newest = client.get(path, params={"limit": 2}).json()
    assert [t["state"] for t in newest["items"]] == ["active", "idle"]
    assert newest["items"][0]["details"] == {"n": 3}
    rest = client.get(path, params={"limit": 2, "cursor": newest["nextCursor"]}).json()
    assert [t["state"] for t in rest["items"]] == ["initializing"]
    assert rest["nextCursor"] is None
    oldest = client.get(path, params={"order": "asc"}).json()
    assert [t["sequence"] for t in oldest["items"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("cursor=nonsense", 400, "invalid_cursor"),
        ("cursor=é", 400, "invalid_cursor"),
        ("limit=0", 422, "validation_failed"),
        ("limit=1001", 422, "validation_failed"),
        ("limit=many", 422, "validation_failed"),
    ],
)
def test_a_bad_query_says_what_is_wrong_with_it(
    client: TestClient, agent_id: str, query: str, status: int, code: str
) -> None:
    for path in ("/v1/opscore/agents", f"/v1/opscore/agents/{agent_id}/history"):
        answer = client.get(f"{path}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/opscore/agents/nobody",
        "/v1/opscore/agents/nobody/history",
        "/v1/opscore/agent/nobody/state",
        "/v1/opscore/agents/%00",
        "/v1/opscore/agent/%ED%A0%80/state",
        "/v1/opscore/agent/%FF/state",
    ],
)
def test_an_agent_that_nobody_knows_is_not_found(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "agent_not_found")


def test_metadata_comes_back_as_it_was_given(client: TestClient) -> None:
    metadata: dict[str, Any] = {"nested": {"list": [1, 2.5, None, True, "ü\0"]}}
    agent_id = register(client, metadata=metadata)
    answer = client.get(f"/v1/opscore/agents/{agent_id}")
    assert json.loads(answer.content)["metadata"] == metadata
