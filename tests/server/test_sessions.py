"""Sessions over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import Connect, register
from tests.support.clock import MovedClock

SESSIONS = "/v1/opscore/sessions"
LIVE = ["started", "running", "paused"]
TERMINAL = ["completed", "failed", "cancelled"]


def start(client: TestClient, agent_id: str, **fields: Any) -> Any:
    answer = client.post(SESSIONS, json={"agentId": agent_id, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def shown(client: TestClient, session_id: str) -> Any:
    """Return a session as it is shown, without the progress that one without a workflow has none
    of.
    """
    session = client.get(f"{SESSIONS}/{session_id}").json()
    assert session.pop("progress") is None
    return session


def change(client: TestClient, session_id: str, **fields: Any) -> tuple[int, Any]:
    answer = client.patch(f"{SESSIONS}/{session_id}", json=fields)
    return answer.status_code, answer.json()


def test_a_session_is_started_with_an_id_of_its_own(client: TestClient, agent_id: str) -> None:
    session = start(client, agent_id, workflowId="w", metadata={"k": "v"})
    assert session == {
        "sessionId": session["sessionId"],
        "agentId": agent_id,
        "workflowId": "w",
        "workflowVersion": None,
        "initialPayload": None,
        "state": "started",
        "result": None,
        "error": None,
        "metadata": {"k": "v"},
        "createdAt": "2026-09-21T14:13:20Z",
        "updatedAt": "2026-09-21T14:13:20Z",
        "endedAt": None,
    }
    assert shown(client, session["sessionId"]) == session
    assert start(client, agent_id)["sessionId"] != session["sessionId"]


def test_starting_it_again_changes_nothing(client: TestClient, agent_id: str) -> None:
    body = {"agentId": agent_id, "sessionId": "s-1", "workflowId": "w"}
    first = client.post(SESSIONS, json=body)
    change(client, "s-1", state="running")
    again = client.post(SESSIONS, json={**body, "metadata": {"k": 1}})
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["state"], again.json()["metadata"]) == ("running", None)


def test_an_id_that_belongs_to_another_is_a_conflict(client: TestClient, agent_id: str) -> None:
    start(client, agent_id, sessionId="s-1", workflowId="w")
    other = register(client, "other")
    for body in (
        {"agentId": other, "sessionId": "s-1", "workflowId": "w"},
        {"agentId": agent_id, "sessionId": "s-1"},
    ):
        answer = client.post(SESSIONS, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "session_exists")
        assert answer.json()["sessionId"] == "s-1"


def test_only_agents_that_are_there_have_sessions(client: TestClient, agent_id: str) -> None:
    client.delete(f"/v1/opscore/agents/{agent_id}")
    for who, status, code in (
        ("nobody", 404, "agent_not_found"),
        (agent_id, 410, "agent_deregistered"),
    ):
        answer = client.post(SESSIONS, json={"agentId": who})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert client.get(SESSIONS).json()["items"] == []


# --- how it goes on and ends ---------------------------------------------------------------------


@pytest.mark.parametrize("before", LIVE)
@pytest.mark.parametrize("after", LIVE)
def test_what_lives_goes_from_any_state_to_any(
    client: TestClient, agent_id: str, before: str, after: str
) -> None:
    session_id = start(client, agent_id)["sessionId"]
    assert change(client, session_id, state=before)[0] == 200
    status, session = change(client, session_id, state=after, metadata={"step": 2})
    assert (status, session["state"], session["metadata"]) == (200, after, {"step": 2})
    assert session["endedAt"] is None


@pytest.mark.parametrize("end", TERMINAL)
def test_an_end_is_final_and_can_be_told_again(connect: Connect, end: str) -> None:
    clock = MovedClock()
    client = connect(clock=clock)
    session_id = start(client, register(client))["sessionId"]
    clock.move(1)
    ended = {"state": end, "result": {"n": 1}, "error": {"type": "E"}}
    status, session = change(client, session_id, **ended)
    assert status == 200
    assert session["endedAt"] == session["updatedAt"] == "2026-09-21T14:13:21Z"
    clock.move(1)
    assert change(client, session_id, **ended) == (200, session)
    assert change(client, session_id, state=end) == (200, session)
    for other in ({"state": s} for s in [*LIVE, *TERMINAL] if s != end):
        status, refusal = change(client, session_id, **other)
        assert (status, refusal["code"]) == (409, "session_ended")
        assert (refusal["sessionId"], refusal["state"]) == (session_id, end)
    for other in ({"result": 2}, {"state": end, "error": None}, {"metadata": {}}):
        assert change(client, session_id, **other)[0] == 409
    assert shown(client, session_id) == session


def test_what_is_left_out_stays_and_null_takes_away(client: TestClient, agent_id: str) -> None:
    session_id = start(client, agent_id, metadata={"k": 1})["sessionId"]
    change(client, session_id, result=[1, None], state="running")
    _, session = change(client, session_id, metadata=None)
    assert (session["state"], session["result"], session["metadata"]) == (
        *("running", [1, None], None),
    )


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"", b'{"state":"over"}', b'{"error":"text"}', b'{"unknown":1}']
)
def test_a_change_that_says_nothing_we_know_is_refused(
    client: TestClient, agent_id: str, body: bytes
) -> None:
    session = start(client, agent_id)
    path = f"{SESSIONS}/{session['sessionId']}"
    answer = client.patch(path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert shown(client, session["sessionId"]) == session


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_session_that_was_never_started_is_not_found(client: TestClient, method: str) -> None:
    answer = client.request(method, f"{SESSIONS}/none", json={"state": "running"})
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
    assert "none" in answer.json()["detail"]


def test_what_is_no_json_elsewhere_is_null_here(client: TestClient, agent_id: str) -> None:
    session_id = start(client, agent_id)["sessionId"]
    answer = client.patch(f"{SESSIONS}/{session_id}", content=b'{"result": [NaN, 1e999]}')
    assert answer.status_code == 200
    assert answer.json()["result"] == [None, None]


# --- lists ---------------------------------------------------------------------------------------


def test_sessions_are_listed_newest_first_and_found_by_agent_and_state(connect: Connect) -> None:
    clock = MovedClock()
    client = connect(clock=clock)
    agents = [register(client, name) for name in ("one", "two")]
    for n in range(5):
        start(client, agents[n % 2], sessionId=f"s{n}")
        clock.move(1)
    change(client, "s2", state="failed")

    def found(**query: Any) -> list[str]:
        ids: list[str] = []
        while True:
            page = client.get(SESSIONS, params={"limit": 2, **query}).json()
            ids += [session["sessionId"] for session in page["items"]]
            if page["nextCursor"] is None:
                return ids
            query["cursor"] = page["nextCursor"]

    assert found() == ["s4", "s3", "s2", "s1", "s0"]
    assert found(agentId=agents[1]) == ["s3", "s1"]
    assert found(state="started") == ["s4", "s3", "s1", "s0"]
    assert found(state="failed", agentId=agents[0]) == ["s2"]
    assert found(agentId="nobody") == []


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("cursor=nonsense", 400, "invalid_cursor"),
        ("cursor=Ilsi", 400, "invalid_cursor"),
        ("limit=0", 422, "validation_failed"),
        ("state=over", 422, "validation_failed"),
    ],
)
def test_a_bad_query_says_what_is_wrong_with_it(
    client: TestClient, query: str, status: int, code: str
) -> None:
    answer = client.get(f"{SESSIONS}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_sessions_need_the_key(connect: Connect) -> None:
    client = connect(api_key="open-sesame")
    assert client.get(SESSIONS).status_code == 401
    assert client.post(SESSIONS, json={"agentId": "a"}).status_code == 401
    assert client.patch(f"{SESSIONS}/s", json={"state": "running"}).status_code == 401
