"""Who may in."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import KEY, Connect, report_of

PATHS = [
    ("POST", "/v1/opscore/agent/a/state"),
    ("POST", "/v1/opscore/agent/a/states"),
    ("GET", "/v1/opscore/agent/a/state"),
    ("POST", "/v1/opscore/agents"),
    ("GET", "/v1/opscore/agents"),
    ("GET", "/v1/opscore/agents/a"),
    ("GET", "/v1/opscore/agents/a/history"),
    ("GET", "/nowhere"),
    ("DELETE", "/health/x"),
    ("GET", "/docsx"),
]


@pytest.fixture
def locked(connect: Connect) -> TestClient:
    """Return a client, without the key, of an Ops-Core that wants one."""
    return connect(api_key=KEY)


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_nothing_but_the_open_paths_answers_without_the_key(
    locked: TestClient, method: str, path: str
) -> None:
    answer = locked.request(method, path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["code"] == "unauthorized"
    assert "Authorization: Bearer <OPSCORE_API_KEY>" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"]
)
def test_the_open_paths_need_no_key(locked: TestClient, path: str) -> None:
    assert locked.get(path).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Bearer " + KEY.encode() + b"x",
        b"Bearer " + KEY.encode()[:-1],
        b"Basic " + KEY.encode(),
        KEY.encode(),
        b"Bearer \xff\xfe\xe9",
        "Bearer schlüssel".encode(),
    ],
)
def test_a_wrong_key_is_refused(locked: TestClient, value: bytes) -> None:
    answer = locked.get("/v1/opscore/agents", headers={b"Authorization": value})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_key_opens_whatever_the_case_of_its_scheme(locked: TestClient, scheme: str) -> None:
    answer = locked.get("/v1/opscore/agents", headers={"Authorization": f"{scheme} {KEY}"})
    assert answer.status_code == 200


def test_x_api_key_is_named_as_the_wrong_header(locked: TestClient) -> None:
    answer = locked.get("/v1/opscore/agents", headers={"X-API-Key": KEY})
    assert answer.status_code == 401
    assert "X-API-Key is not accepted" in answer.json()["detail"]


def test_a_refused_report_changes_nothing(locked: TestClient) -> None:
    right = {"Authorization": f"Bearer {KEY}"}
    created = locked.post("/v1/opscore/agents", json={"agentName": "a"}, headers=right)
    agent_id = created.json()["agentId"]
    path = f"/v1/opscore/agent/{agent_id}/state"
    for headers in ({}, {"X-API-Key": KEY}, {"Authorization": "Bearer wrong"}):
        answer = locked.post(path, json=report_of(agent_id), headers=headers)
        assert answer.status_code == 401
    assert locked.get(path, headers=right).json()["state"] == "UNKNOWN"


def test_without_a_key_everything_is_open(client: TestClient) -> None:
    answer = client.get("/v1/opscore/agents", headers={"Authorization": "Bearer whatever"})
    assert answer.status_code == 200
