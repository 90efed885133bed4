"""`Idempotency-Key`: the same request again creates nothing, and is answered as the first time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from opscore_middleware.core.keys import Key, Scope, digest, toml_entry
from tests.server.conftest import NOW, Connect, register
from tests.support.clock import MovedClock

WORKFLOW: Final = {
    "id": "wf",
    "name": "One step",
    "tasks": [{"taskId": "step_1", "name": "Sum up", "agentCapability": "sum"}],
}
ROUTES: Final[dict[str, dict[str, Any]]] = {
    "/v1/opscore/agents": {"agentName": "adder"},
    "/v1/opscore/sessions": {"agentId": "known"},
    "/v1/opscore/workflows": WORKFLOW,
    "/v1/opscore/agent/known/workflow": {"workflowDefinition": WORKFLOW},
}
OTHERWISE: Final[dict[str, dict[str, Any]]] = {
    "/v1/opscore/agents": {"agentName": "another"},
    "/v1/opscore/sessions": {"metadata": {"other": 1}},
    "/v1/opscore/workflows": {"name": "Another step"},
    "/v1/opscore/agent/known/workflow": {"initialPayload": {"other": 1}},
}
CREATED: Final = ("agentId", "sessionId", "workflowId")


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock(NOW)


@pytest.fixture
def client(connect: Connect, clock: MovedClock) -> TestClient:
    """Return a client of an Ops-Core that knows the agent `known`."""
    client = connect(clock=clock, dispatch=False)
    register(client, "known", agentId="known")
    return client


def post(client: TestClient, path: str, body: Any, key: str = "k-1", **headers: str) -> Response:
    return client.post(path, json=body, headers={"Idempotency-Key": key, **headers})


def counts(client: TestClient) -> list[int]:
    paths = ("agents", "sessions", "workflows")
    return [len(client.get(f"/v1/opscore/{path}").json()["items"]) for path in paths]


@pytest.mark.parametrize("path", ROUTES)
def test_a_repeat_is_answered_as_the_first_time_and_creates_nothing(
    client: TestClient, path: str
) -> None:
    first = post(client, path, ROUTES[path])
    assert first.status_code in {201, 202}, first.text
    before = counts(client)
    again = post(client, path, ROUTES[path])
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert counts(client) == before


@pytest.mark.parametrize("path", ROUTES)
def test_the_same_key_for_another_request_is_refused(client: TestClient, path: str) -> None:
    post(client, path, ROUTES[path])
    before = counts(client)
    answer = post(client, path, ROUTES[path] | OTHERWISE[path])
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert counts(client) == before


def test_another_key_or_none_creates_anew(client: TestClient) -> None:
    path = "/v1/opscore/agent/known/workflow"
    keys = [post(client, path, ROUTES[path], key).json()["sessionId"] for key in ("k-1", "k-2")]
    none = client.post(path, json=ROUTES[path]).json()["sessionId"]
    assert len({*keys, none}) == 3


def test_a_key_belongs_to_its_route(client: TestClient) -> None:
    for path, body in ROUTES.items():
        assert post(client, path, body).status_code in {201, 202}


def test_a_key_belongs_to_its_caller(connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    keys = [Key(name, digest(name.encode()), Scope.parse("admin"), None) for name in ("a", "b")]
    file.write_text("\n".join(toml_entry(key) for key in keys))
    client = connect(dispatch=False, api_keys_file=file)
    answers = [
        client.post(
            "/v1/opscore/agents",
            json={"agentName": f"of-{name}"},
            headers={"Idempotency-Key": "k", "Authorization": f"Bearer {name}"},
        )
        for name in ("a", "b")
    ]
    assert [answer.status_code for answer in answers] == [201, 201]


def test_a_key_is_forgotten_after_a_day(client: TestClient, clock: MovedClock) -> None:
    path = "/v1/opscore/agent/known/workflow"
    first = post(client, path, ROUTES[path]).json()["sessionId"]
    clock.move(24 * 3600 - 1)
    assert post(client, path, ROUTES[path]).json()["sessionId"] == first
    clock.move(2)
    assert post(client, path, ROUTES[path]).json()["sessionId"] != first


def test_what_was_refused_is_not_remembered(client: TestClient) -> None:
    path = "/v1/opscore/agent/known/workflow"
    assert post(client, path, {"workflowDefinitionId": "wf"}).status_code == 404
    client.post("/v1/opscore/workflows", json=WORKFLOW)
    assert post(client, path, {"workflowDefinitionId": "wf"}).status_code == 202


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
def test_a_key_that_cannot_be_is_refused(client: TestClient, key: str) -> None:
    headers = {b"idempotency-key": key.encode()}
    answer = client.post("/v1/opscore/agents", json={"agentName": "a"}, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 422


def test_requests_that_come_at_once_create_one(client: TestClient) -> None:
    path = "/v1/opscore/agent/known/workflow"
    answers: list[Response] = []

    def ask() -> None:
        answers.append(post(client, path, ROUTES[path]))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["sessionId"] for answer in answers}) == 1
