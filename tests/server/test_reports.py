"""What becomes of reports, good and bad."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import NOW_TEXT, Connect, everything, register, report_of


def state_path(agent_id: str) -> str:
    return f"/v1/opscore/agent/{agent_id}/state"


def history(client: TestClient, agent_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"/v1/opscore/agents/{agent_id}/history").json()[
        "items"
    ]
    return items


def test_a_report_is_taken_and_becomes_the_state(client: TestClient, agent_id: str) -> None:
    answer = client.post(
        state_path(agent_id), json=report_of(agent_id, "active", details={"opscore_task_id": "t.1"})
    )
    assert answer.status_code == 202
    assert answer.json() == {"status": "success", "message": "State update accepted"}
    assert client.get(state_path(agent_id)).json() == {
        "agentId": agent_id,
        "state": "active",
        "details": {"opscore_task_id": "t.1"},
        "timestamp": NOW_TEXT,
    }


def test_a_registered_agent_is_unknown_until_it_reports(client: TestClient, agent_id: str) -> None:
    assert client.get(state_path(agent_id)).json()["state"] == "UNKNOWN"


@pytest.mark.parametrize("spelling", ["IDLE", "Idle", "iDlE"])
def test_case_of_a_state_does_not_matter(client: TestClient, agent_id: str, spelling: str) -> None:
    assert client.post(state_path(agent_id), json=report_of(agent_id, spelling)).status_code == 202
    assert client.get(state_path(agent_id)).json()["state"] == "idle"


def test_a_state_that_the_operator_allowed_is_stored_and_shown(connect: Connect) -> None:
    client = connect(extra_states="paused,throttled")
    agent_id = register(client)
    assert client.post(state_path(agent_id), json=report_of(agent_id, "Paused")).status_code == 202
    assert client.get(state_path(agent_id)).json()["state"] == "paused"
    refused = client.post(state_path(agent_id), json=report_of(agent_id, "asleep"))
    assert refused.status_code == 400
    assert refused.json()["allowed"][-2:] == ["paused", "throttled"]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json; charset=utf-8"])
def test_the_content_type_is_not_held_against_a_report(
    client: TestClient, agent_id: str, content_type: str | None
) -> None:
    answer = client.post(
        state_path(agent_id),
        content=json.dumps(report_of(agent_id)),
        headers={} if content_type is None else {"Content-Type": content_type},
    )
    assert answer.status_code == 202


def test_a_clock_that_is_years_off_does_not_pin_the_state(
    client: TestClient, agent_id: str
) -> None:
    future = report_of(agent_id, "error", timestamp="2099-01-01T00:00:00Z")
    assert client.post(state_path(agent_id), json=future).status_code == 202
    assert client.post(state_path(agent_id), json=report_of(agent_id, "idle")).status_code == 202
    assert client.get(state_path(agent_id)).json()["state"] == "idle"
    assert history(client, agent_id)[1]["timestamp"] == "2099-01-01T00:00:00Z"


def test_a_repeat_is_answered_alike_and_changes_nothing(client: TestClient, agent_id: str) -> None:
    report = report_of(agent_id, "active", instanceId="i-1", sequence=1)
    for _ in range(2):
        assert client.post(state_path(agent_id), json=report).status_code == 202
    assert len(history(client, agent_id)) == 1


def test_a_batch_says_how_much_of_it_was_new(client: TestClient, agent_id: str) -> None:
    reports = [
        report_of(agent_id, state, instanceId="i-1", sequence=n)
        for n, state in enumerate(["initializing", "idle", "active"], start=1)
    ]
    path = f"/v1/opscore/agent/{agent_id}/states"
    first = client.post(path, json={"reports": reports[:2]})
    assert (first.status_code, first.json()) == (202, {"accepted": 2, "duplicates": 0})
    second = client.post(path, json={"reports": reports})
    assert (second.status_code, second.json()) == (202, {"accepted": 1, "duplicates": 2})
    assert client.get(state_path(agent_id)).json()["state"] == "active"


def test_one_bad_report_refuses_its_whole_batch(client: TestClient, agent_id: str) -> None:
    before = everything(client, agent_id)
    reports = [report_of(agent_id), report_of(agent_id, "asleep")]
    answer = client.post(f"/v1/opscore/agent/{agent_id}/states", json={"reports": reports})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_state")
    assert everything(client, agent_id) == before


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_holds_from_one_to_a_thousand_reports(
    client: TestClient, agent_id: str, count: int
) -> None:
    reports = [report_of(agent_id)] * count
    answer = client.post(f"/v1/opscore/agent/{agent_id}/states", json={"reports": reports})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_a_thousand_bad_reports_are_not_echoed_back(client: TestClient, agent_id: str) -> None:
    reports = [report_of(agent_id, timestamp="x" * 1000)] * 1000
    answer = client.post(f"/v1/opscore/agent/{agent_id}/states", json={"reports": reports})
    assert answer.status_code == 422
    assert len(answer.content) < 20_000


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "another agent in the body": ({"agentId": "somebody-else"}, 400, "agent_id_mismatch"),
    "a state that does not exist": ({"state": "asleep"}, 400, "invalid_state"),
    "the state before the first report": ({"state": "UNKNOWN"}, 400, "invalid_state"),
    "a state with a NUL": ({"state": "idle\0"}, 400, "invalid_state"),
    "an empty state": ({"state": ""}, 422, "validation_failed"),
    "a time without an offset": ({"timestamp": "2026-09-21T14:13:20"}, 422, "validation_failed"),
    "a time that is none": ({"timestamp": "yesterday"}, 422, "validation_failed"),
    "no time": ({"timestamp": None}, 422, "validation_failed"),
    "details that are no object": ({"details": ["a"]}, 422, "validation_failed"),
    "an instance with a NUL": ({"instanceId": "i\0"}, 422, "validation_failed"),
    "a sequence below one": (
        {"instanceId": "i", "sequence": 0},
        422,
        "validation_failed",
    ),
    "a sequence beyond what JSON keeps": (
        {"instanceId": "i", "sequence": 10**30},
        422,
        "validation_failed",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_report_is_refused_and_changes_nothing(
    client: TestClient, agent_id: str, case: str
) -> None:
    fields, status, code = REFUSED[case]
    before = everything(client, agent_id)
    answer = client.post(state_path(agent_id), json=report_of(agent_id) | fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert everything(client, agent_id) == before


def bodies(agent_id: str) -> dict[str, bytes]:
    """Return bodies that are not JSON, or not JSON that can be taken."""
    good = json.dumps(report_of(agent_id, details={"note": "@"})).encode()
    deep = b"[" * 50_000 + b"]" * 50_000
    return {
        "nothing": b"",
        "not JSON": b"state=idle",
        "cut off": good[:-5],
        "a list": b"[]",
        "a number": b"1",
        "deeply nested": deep,
        "deeply nested details": good.replace(b'"@"', deep),
        "a raw NUL": good.replace(b"@", b"\0"),
        "a lone surrogate": good.replace(b"@", rb"\ud800"),
        "not UTF-8": good.replace(b"@", b"\xff\xfe"),
        "UTF-16": good.decode().encode("utf-16"),
        "a key that is no text": b"{1: 2}",
        "a NaN time": good.replace(f'"{NOW_TEXT}"'.encode(), b"NaN"),
    }


@pytest.mark.parametrize("case", bodies("x"))
def test_a_broken_body_is_refused_and_changes_nothing(
    client: TestClient, agent_id: str, case: str
) -> None:
    before = everything(client, agent_id)
    for path in (state_path(agent_id), f"/v1/opscore/agent/{agent_id}/states"):
        answer = client.post(path, content=bodies(agent_id)[case])
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), path
        assert isinstance(answer.json()["detail"], list)
    assert everything(client, agent_id) == before


def test_a_report_of_an_agent_that_nobody_knows_is_refused(client: TestClient) -> None:
    answer = client.post(state_path("nobody"), json=report_of("nobody"))
    assert answer.status_code == 404
    assert answer.json()["code"] == "agent_not_found"
    assert answer.json()["agentId"] == "nobody"
    assert "'nobody'" in answer.json()["detail"]
    assert client.get("/v1/opscore/agents").json()["items"] == []


def test_a_report_with_unknown_fields_is_taken(client: TestClient, agent_id: str) -> None:
    assert (
        client.post(state_path(agent_id), json=report_of(agent_id, mood="sunny")).status_code == 202
    )
