"""Workflows, their sessions and tasks over HTTP; nothing is sent, the tests give tasks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from opscore_middleware.core.runs.records import Claim
from opscore_middleware.core.runs.tasks import attempt_id
from tests.server.conftest import NOW, Connect, register, report_of
from tests.support.clock import MovedClock

ONE: dict[str, Any] = {
    "id": "wf",
    "name": "One step",
    "tasks": [{"taskId": "step_1", "name": "Sum up", "agentCapability": "sum"}],
}
TWO: dict[str, Any] = {
    "id": "two",
    "name": "Two steps",
    "tasks": [
        {"taskId": "a", "name": "A", "agentCapability": "sum", "nextTaskId": "b"},
        {
            "taskId": "b",
            "name": "B",
            "agentCapability": "sum",
            "parameters": {"was": "{{ tasks.a.result.sum }}"},
        },
    ],
}


@pytest.fixture
def client(connect: Connect) -> TestClient:
    """Return a client of an Ops-Core that gives out nothing by itself."""
    return connect(dispatch=False)


@pytest.fixture
def agent_id(client: TestClient) -> str:
    """Return the id of an agent that is free and can sum up."""
    return free_agent(client, "adder")


def free_agent(client: TestClient, name: str) -> str:
    agent_id = register(client, name, capabilities=["sum"], contactEndpoint="http://127.0.0.1:9/")
    answer = client.post(f"/v1/opscore/agent/{agent_id}/state", json=report_of(agent_id))
    assert answer.status_code == 202
    return agent_id


def start(client: TestClient, agent_id: str, definition: Any = ONE, **more: Any) -> str:
    body = {"workflowDefinition": definition, **more}
    answer = client.post(f"/v1/opscore/agent/{agent_id}/workflow", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["sessionId"])


def give_out(client: TestClient, limit: int = 10) -> list[str]:
    """Give out what is ready and return the attempts' ids."""
    assert client.portal is not None
    claims: Sequence[Claim] = client.portal.call(client.app.state.engine.claim, limit)  # type: ignore[attr-defined]
    return [attempt_id(claim.task) for claim in claims]


def session(client: TestClient, session_id: str) -> Any:
    return client.get(f"/v1/opscore/sessions/{session_id}").json()


def end(client: TestClient, attempt: str, **body: Any) -> Any:
    return client.post(f"/v1/opscore/tasks/{attempt}/result", json=body)


# --- definitions ---------------------------------------------------------------------------------


def test_a_definition_is_kept_and_returned(client: TestClient) -> None:
    answer = client.post("/v1/opscore/workflows", json=ONE)
    assert answer.status_code == 201
    kept = answer.json()
    assert (kept["workflowId"], kept["version"], kept["name"]) == ("wf", 1, "One step")
    assert client.get("/v1/opscore/workflows/wf").json() == kept
    assert client.get("/v1/opscore/workflows").json()["items"] == [kept]


def test_yaml_is_taken_as_json_is(client: TestClient) -> None:
    text = "id: wf\nname: One step\ntasks:\n- taskId: step_1\n  name: Sum up\n"
    text += "  agentCapability: sum\n"
    answer = client.post(
        "/v1/opscore/workflows", content=text, headers={"Content-Type": "application/yaml"}
    )
    assert answer.status_code == 201, answer.text
    assert client.post("/v1/opscore/workflows", json=ONE).status_code == 200
    assert client.get("/v1/opscore/workflows/wf").json()["version"] == 1


def test_another_definition_under_an_id_is_its_next_version(client: TestClient) -> None:
    client.post("/v1/opscore/workflows", json=ONE)
    answer = client.post("/v1/opscore/workflows", json={**ONE, "name": "Anew"})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    first = client.get("/v1/opscore/workflows/wf", params={"version": 1}).json()
    assert first["name"] == "One step"


def test_every_fault_of_a_definition_is_named_with_its_place(client: TestClient) -> None:
    broken = {**ONE, "tasks": [{"taskId": "a", "nextTaskId": "b"}], "colour": "red"}
    answer = client.post("/v1/opscore/workflows", json=broken)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_definition"
    assert {fault["path"] for fault in answer.json()["faults"]} >= {"colour", "tasks[0].nextTaskId"}
    assert client.get("/v1/opscore/workflows").json()["items"] == []


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"a: *b", b"\xff", b"just a text"])
def test_what_is_no_definition_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/opscore/workflows", content=body)
    assert answer.status_code in {400, 422}, answer.text


def test_a_definition_that_nobody_kept_is_not_found(client: TestClient) -> None:
    answer = client.get("/v1/opscore/workflows/none")
    assert (answer.status_code, answer.json()["code"]) == (404, "workflow_not_found")
    client.post("/v1/opscore/workflows", json=ONE)
    assert client.get("/v1/opscore/workflows/wf", params={"version": 7}).status_code == 404


def test_the_schema_is_served_for_editors(client: TestClient) -> None:
    schema = client.get("/v1/opscore/workflows/schema").json()
    assert schema["title"] == "Ops-Core workflow"
    assert {"id", "name", "tasks"} <= set(schema["properties"])


def test_definitions_are_listed_a_page_at_a_time(client: TestClient) -> None:
    for number in range(5):
        client.post("/v1/opscore/workflows", json={**ONE, "id": f"wf-{number}"})
    first = client.get("/v1/opscore/workflows", params={"limit": 3}).json()
    rest = client.get("/v1/opscore/workflows", params={"cursor": first["nextCursor"]}).json()
    listed = [item["workflowId"] for item in first["items"] + rest["items"]]
    assert listed == [f"wf-{number}" for number in range(5)]
    assert client.get("/v1/opscore/workflows", params={"cursor": "no"}).status_code == 400


# --- starting ------------------------------------------------------------------------------------


def test_a_workflow_starts_by_its_id(client: TestClient, agent_id: str) -> None:
    client.post("/v1/opscore/workflows", json=ONE)
    answer = client.post(
        f"/v1/opscore/agent/{agent_id}/workflow",
        json={"workflowDefinitionId": "wf", "initialPayload": {"text": "long"}},
    )
    assert answer.status_code == 202
    assert set(answer.json()) == {"sessionId", "workflowId", "message"}
    shown = session(client, answer.json()["sessionId"])
    assert (shown["state"], shown["workflowId"], shown["workflowVersion"]) == ("started", "wf", 1)
    assert shown["initialPayload"] == {"text": "long"}
    assert (shown["progress"]["total"], shown["progress"]["ready"]) == (1, 1)


def test_a_definition_that_comes_along_is_kept(client: TestClient, agent_id: str) -> None:
    start(client, agent_id)
    assert client.get("/v1/opscore/workflows/wf").json()["version"] == 1
    start(client, agent_id, {**ONE, "name": "Anew"})
    assert client.get("/v1/opscore/workflows/wf").json()["version"] == 2


@pytest.mark.parametrize(
    "body", [{}, {"workflowDefinitionId": "wf", "workflowDefinition": ONE}, {"initialPayload": {}}]
)
def test_both_or_neither_is_refused(client: TestClient, agent_id: str, body: Any) -> None:
    answer = client.post(f"/v1/opscore/agent/{agent_id}/workflow", json=body)
    assert answer.status_code == 422


def test_names_that_stand_twice_are_refused_with_their_place(
    client: TestClient, agent_id: str
) -> None:
    path = f"/v1/opscore/agent/{agent_id}/workflow"
    task = '{"taskId": "a", "name": "A", "when": "tasks", "when": null, "parameters": {%s}}'
    definition = '{"id": "wf", "name": "One", "name": "Two", "tasks": [%s]}'
    inline = definition % (task % '"x": 1, "x": 2')
    refused = client.post(path, content=f'{{"workflowDefinition": {inline}}}')
    assert refused.status_code == 422
    assert refused.json()["faults"] == [
        {"path": path, "message": "stands twice in one object"}
        for path in ("name", "tasks[0].when", "tasks[0].parameters.x")
    ]
    kept = client.post("/v1/opscore/workflows", content=inline)
    assert kept.status_code == 400
    assert "'name' stands twice in one object (name)" in kept.json()["detail"]

    body = '{"workflowDefinitionId": "x", "workflowDefinitionId": "wf"}'
    (fault,) = client.post(path, content=body).json()["detail"]
    assert fault["loc"] == ["body", "workflowDefinitionId"]

    client.post("/v1/opscore/workflows", json=ONE)
    payload = '{"workflowDefinitionId": "wf", "initialPayload": {"x": 1, "x": 2}}'
    assert client.post(path, content=payload).status_code == 202


def test_unknown_agents_and_definitions_are_not_found(client: TestClient, agent_id: str) -> None:
    unknown = client.post("/v1/opscore/agent/nobody/workflow", json={"workflowDefinition": ONE})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "agent_not_found")
    answer = client.post(
        f"/v1/opscore/agent/{agent_id}/workflow", json={"workflowDefinitionId": "none"}
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "workflow_not_found")


def test_a_deregistered_agent_starts_nothing(client: TestClient, agent_id: str) -> None:
    client.delete(f"/v1/opscore/agents/{agent_id}")
    answer = client.post(f"/v1/opscore/agent/{agent_id}/workflow", json={"workflowDefinition": ONE})
    assert answer.status_code == 410


# --- tasks ---------------------------------------------------------------------------------------


def test_results_flow_to_the_end_of_the_session(client: TestClient, agent_id: str) -> None:
    session_id = start(client, agent_id, TWO)
    (first,) = give_out(client)
    assert end(client, first, result={"sum": 3}).json()["state"] == "completed"
    client.post(f"/v1/opscore/agent/{agent_id}/state", json=report_of(agent_id))
    (second,) = give_out(client)
    task = client.get(f"/v1/opscore/tasks/{second}").json()
    assert (task["node"], task["parameters"]) == ("b", {"was": 3})
    end(client, second, result="done")
    shown = session(client, session_id)
    assert shown["state"] == "completed"
    assert shown["result"] == {"a": {"sum": 3}, "b": "done"}
    assert (shown["progress"]["total"], shown["progress"]["completed"]) == (2, 2)


def test_the_same_result_again_is_harmless_and_a_stale_one_is_superseded(
    connect: Connect,
) -> None:
    clock = MovedClock(NOW)
    client = connect(dispatch=False, clock=clock)
    agent_id = free_agent(client, "adder")
    start(client, agent_id)
    (attempt,) = give_out(client)
    for _ in range(2):
        assert end(client, attempt, error={"type": "Oops", "message": "no"}).status_code == 200
    task = client.get(f"/v1/opscore/tasks/{attempt.partition('.')[0]}").json()
    assert (task["state"], task["attempts"]) == ("ready", 1)
    clock.move(60)
    (again,) = give_out(client)
    assert again == f"{task['taskId']}.2"
    stale = end(client, attempt, result=1)
    assert (stale.status_code, stale.json()["code"]) == (409, "superseded")
    assert end(client, again, result=1).json()["result"] == 1


def test_progress_starts_an_attempt_and_shows(client: TestClient, agent_id: str) -> None:
    start(client, agent_id)
    (attempt,) = give_out(client)
    said = {"progress": 0.25, "message": "a quarter"}
    task = client.post(f"/v1/opscore/tasks/{attempt}/progress", json=said).json()
    assert (task["state"], task["progress"], task["progressMessage"]) == (
        *("running", 0.25, "a quarter"),
    )
    assert (
        client.post(f"/v1/opscore/tasks/{attempt}/progress", json={"progress": 2}).status_code
        == 422
    )


def test_a_task_says_why_it_waits(client: TestClient, agent_id: str) -> None:
    start(client, agent_id, TWO)
    items = client.get("/v1/opscore/tasks", params={"state": "waiting"}).json()["items"]
    why = client.get(f"/v1/opscore/tasks/{items[0]['taskId']}/why").json()
    assert (why["taskId"], why["state"]) == (items[0]["taskId"], "waiting")
    assert "a" in why["why"]


def test_tasks_that_failed_for_good_are_listed_and_replayed(
    client: TestClient, agent_id: str
) -> None:
    once = {**ONE, "tasks": [{**ONE["tasks"][0], "retry": {"maximumAttempts": 1}}]}
    session_id = start(client, agent_id, once)
    (attempt,) = give_out(client)
    end(client, attempt, error={"type": "Oops", "message": "no"})
    (dead,) = client.get("/v1/opscore/tasks", params={"dead": True}).json()["items"]
    assert (dead["state"], dead["error"]["message"]) == ("failed", "no")
    assert session(client, session_id)["state"] == "failed"
    assert client.post("/v1/opscore/tasks/dead/replay").json() == {"replayed": 1}
    assert client.get("/v1/opscore/tasks", params={"dead": True}).json()["items"] == []


def test_no_dead_task_is_in_another_state_than_failed(client: TestClient) -> None:
    def dead(state: str) -> Any:
        return client.get("/v1/opscore/tasks", params={"dead": True, "state": state})

    assert dead("failed").status_code == 200
    assert dead("ready").status_code == 422
    assert "none is ready" in dead("ready").json()["detail"][0]["msg"]


def test_a_cancelled_task_is_over(client: TestClient, agent_id: str) -> None:
    start(client, agent_id)
    (attempt,) = give_out(client)
    task_id = attempt.partition(".")[0]
    assert client.post(f"/v1/opscore/tasks/{task_id}/cancel").json()["state"] == "cancelled"
    assert end(client, attempt, result=1).status_code == 409


def test_a_task_that_nobody_made_is_not_found(client: TestClient) -> None:
    for method, path in (
        ("GET", ""),
        ("GET", "/why"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/result"),
    ):
        answer = client.request(method, f"/v1/opscore/tasks/none{path}", json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found"), path


def test_tasks_are_listed_a_page_at_a_time(client: TestClient, agent_id: str) -> None:
    many = {**ONE, "tasks": [{**ONE["tasks"][0], "taskId": f"t{n}"} for n in range(5)]}
    session_id = start(client, agent_id, many)
    query = {"sessionId": session_id, "limit": "3"}
    first = client.get("/v1/opscore/tasks", params=query).json()
    query["cursor"] = first["nextCursor"]
    rest = client.get("/v1/opscore/tasks", params=query).json()
    assert {item["node"] for item in first["items"] + rest["items"]} == {f"t{n}" for n in range(5)}


# --- sessions ------------------------------------------------------------------------------------


def test_a_paused_session_gives_out_nothing_until_it_goes_on(
    client: TestClient, agent_id: str
) -> None:
    session_id = start(client, agent_id)
    path = f"/v1/opscore/sessions/{session_id}"
    assert client.post(f"{path}/pause").json()["state"] == "paused"
    assert give_out(client) == []
    assert client.post(f"{path}/resume").json()["state"] in {"started", "running"}
    assert len(give_out(client)) == 1


def test_a_cancelled_session_tells_the_agent_with_its_heartbeat(connect: Connect) -> None:
    client = connect(dispatch=False)
    agent_id = free_agent(client, "adder")
    report = report_of(agent_id, instanceId="i-1", sequence=1)
    client.post(f"/v1/opscore/agent/{agent_id}/state", json=report)
    session_id = start(client, agent_id)
    (attempt,) = give_out(client)
    beat = {"instanceId": "i-1", "state": "active", "sequence": 2, "intervalSeconds": 10}
    path = f"/v1/opscore/agent/{agent_id}/heartbeat"
    assert client.post(path, json=beat).json()["cancel"] == []
    answer = client.post(f"/v1/opscore/sessions/{session_id}/cancel")
    assert answer.json()["state"] == "cancelled"
    assert client.portal is not None
    client.portal.call(client.app.state.stopped.loop().step)  # type: ignore[attr-defined]
    assert client.post(path, json=beat).json()["cancel"] == [attempt]
    other = {**beat, "instanceId": "i-2"}
    assert client.post(path, json=other).json()["cancel"] == []


def test_a_failed_session_is_tried_again(client: TestClient, agent_id: str) -> None:
    once = {**ONE, "tasks": [{**ONE["tasks"][0], "retry": {"maximumAttempts": 1}}]}
    session_id = start(client, agent_id, once)
    (attempt,) = give_out(client)
    end(client, attempt, error={"type": "Oops", "message": "no"})
    client.post(f"/v1/opscore/agent/{agent_id}/state", json=report_of(agent_id))
    assert client.post(f"/v1/opscore/sessions/{session_id}/retry").status_code == 200
    (again,) = give_out(client)
    end(client, again, result=1)
    assert session(client, session_id)["state"] == "completed"


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
def test_a_session_that_nobody_started_is_not_found(client: TestClient, action: str) -> None:
    answer = client.post(f"/v1/opscore/sessions/none/{action}")
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")


def test_a_session_without_a_workflow_shows_no_progress(client: TestClient, agent_id: str) -> None:
    answer = client.post("/v1/opscore/sessions", json={"agentId": agent_id})
    assert session(client, answer.json()["sessionId"])["progress"] is None
