"""Every refusal is JSON with a sentence and a code, and nothing leaks."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.errors import StoreUnavailable
from tests.server.conftest import KEY, Connect, report_of


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("POST", "/v1/v1/opscore/agents"),
        ("GET", "/v1/opscore/agents/"),
        ("POST", "/v1/opscore/agent//state"),
        ("POST", "/v1/opscore/agent/a/b/state"),
        ("GET", "/docs/assets/nothing.js"),
        ("GET", "/docs/assets/..%2f..%2f__init__.py"),
        ("BREW", "/coffee"),
    ],
)
def test_an_unknown_path_is_answered_in_json(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/opscore/agent/a/state", "GET, POST"),
        ("GET", "/v1/opscore/agent/a/states", "POST"),
        ("DELETE", "/v1/opscore/agents", "GET, POST"),
        ("PATCH", "/v1/opscore/agents/a", "DELETE, GET"),
        ("GET", "/v1/opscore/agent/a/heartbeat", "POST"),
        ("PUT", "/v1/opscore/sessions/s", "GET, PATCH"),
        ("GET", "/v1/opscore/internal/agent/notify", "POST"),
        ("POST", "/v1/opscore/agents/a/history", "GET"),
        ("POST", "/health", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == allowed
    assert answer.json()["code"] == "method_not_allowed"
    assert allowed in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_pages_that_are_only_read_say_so(client: TestClient, path: str) -> None:
    answer = client.post(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["Allow"]


def test_it_serves_below_a_path_of_another_app(connect: Connect) -> None:
    ours = connect(api_key=KEY)
    below = TestClient(Starlette(routes=[Mount("/ops", ours.app)]))
    right = {"Authorization": f"Bearer {KEY}"}
    assert below.get("/ops/health").status_code == 200
    assert below.get("/ops/v1/opscore/agents").status_code == 401
    created = below.post("/ops/v1/opscore/agents", json={"agentName": "a"}, headers=right)
    agent_id = created.json()["agentId"]
    path = f"/ops/v1/opscore/agent/{agent_id}/state"
    assert below.post(path, json=report_of(agent_id), headers=right).status_code == 202
    assert below.put(path, headers=right).headers["Allow"] == "GET, POST"
    assert "/ops/openapi.json" in below.get("/ops/docs").text


ROUTES = [
    ("POST", "/v1/opscore/agent/a/state", "report", report_of("a")),
    ("POST", "/v1/opscore/agent/a/states", "report_batch", {"reports": [report_of("a")]}),
    ("GET", "/v1/opscore/agents", "agents", None),
]


@pytest.mark.parametrize(("method", "path", "use_case", "body"), ROUTES)
def test_the_unexpected_is_answered_with_an_id_that_the_log_knows(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    use_case: str,
    body: Any,
) -> None:
    async def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError(f"the password is {KEY}")

    monkeypatch.setattr(OpsCore, use_case, fail)
    answer = client.request(method, path, json=body)
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "password" not in answer.text
    assert "Traceback" not in answer.text
    (logged,) = [r for r in caplog.records if r.message == "internal_error"]
    assert logged.__dict__["error_id"] == answer.json()["errorId"]
    assert logged.exc_info is not None


@pytest.mark.parametrize(("method", "path", "use_case", "body"), ROUTES)
def test_a_database_that_is_away_is_said_to_be_so(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    use_case: str,
    body: Any,
) -> None:
    async def fail(*args: Any, **options: Any) -> None:
        raise StoreUnavailable("The database is away; try again.")

    monkeypatch.setattr(OpsCore, use_case, fail)
    answer = client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert answer.headers["Retry-After"] == "1"


def test_validation_keeps_the_list_of_faults(client: TestClient, agent_id: str) -> None:
    answer = client.post(f"/v1/opscore/agent/{agent_id}/state", json=report_of(agent_id, state=7))
    assert answer.json()["detail"] == [
        {
            "type": "string_type",
            "loc": ["body", "state"],
            "msg": "Input should be a valid string",
            "input": 7,
        }
    ]


def test_each_decision_is_one_event_and_no_secret_is_in_any(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = connect(api_key=KEY)
    right = {"Authorization": f"Bearer {KEY}"}
    created = client.post("/v1/opscore/agents", json={"agentName": "a"}, headers=right)
    agent_id = created.json()["agentId"]
    path = f"/v1/opscore/agent/{agent_id}/state"
    client.post(path, json=report_of(agent_id), headers=right)
    client.post(path, json=report_of(agent_id, "asleep"), headers=right)
    client.post(path, json=report_of(agent_id), headers={"Authorization": f"Bearer {KEY}x"})
    client.get("/nowhere", headers=right)
    ours = [r for r in caplog.records if r.name.startswith("opscore_middleware.server")]
    assert [(r.levelname, r.message, r.__dict__.get("code")) for r in ours] == [
        ("INFO", "started", None),
        ("INFO", "agent_registered", None),
        ("DEBUG", "report_accepted", None),
        ("INFO", "report_refused", "invalid_state"),
        ("INFO", "request_refused", "unauthorized"),
        ("INFO", "request_refused", "not_found"),
    ]
    everything = json.dumps([r.__dict__ for r in caplog.records], default=repr)
    assert KEY not in everything.replace(json.dumps(right), "")
