"""What Prometheus reads off a server."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from opscore_middleware.core.keys import Key, Scope, digest, toml_entry
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.tasks import attempt_id
from opscore_middleware.errors import StoreUnavailable
from tests.server.conftest import KEY, NOW, Connect, register, report_of
from tests.support.clock import MovedClock
from tests.support.waiting import wait_until

BEAT = {"instanceId": "i", "state": "idle", "sequence": 1, "intervalSeconds": 10}


def read(client: TestClient, name: str, /, **labels: str) -> float | None:
    """Return one value of the page; None where it is not there."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def post(client: TestClient, path: str, body: Any) -> int:
    return int(client.post(f"/v1/opscore/agent/{path}", json=body).status_code)


def test_reports_and_heartbeats_are_counted_by_what_became_of_them(
    client: TestClient, agent_id: str
) -> None:
    for sequence in (1, 2, 2):
        report = report_of(agent_id, instanceId="i", sequence=sequence)
        assert post(client, f"{agent_id}/state", report) == 202
    batch = [report_of(agent_id, instanceId="i", sequence=n) for n in (2, 3, 4)]
    assert post(client, f"{agent_id}/states", {"reports": batch}) == 202
    assert post(client, f"{agent_id}/heartbeat", BEAT) == 200
    assert read(client, "opscore_reports_total", outcome="accepted") == 4
    assert read(client, "opscore_reports_total", outcome="duplicate") == 2
    assert read(client, "opscore_heartbeats_total") == 1


def test_refusals_are_counted_by_their_code_wherever_they_come_from(
    client: TestClient, agent_id: str
) -> None:
    assert post(client, f"{agent_id}/state", report_of("other")) == 400
    assert post(client, "nobody/state", report_of("nobody")) == 404
    assert client.get("/v1/opscore/agents/nobody").status_code == 404
    assert client.get("/nowhere").status_code == 404
    assert client.get("/v1/opscore/agents?limit=0").status_code == 422
    assert client.put("/v1/opscore/agents").status_code == 405
    for code, count in {
        "agent_id_mismatch": 1,
        "agent_not_found": 2,
        "not_found": 1,
        "validation_failed": 1,
        "method_not_allowed": 1,
    }.items():
        assert read(client, "opscore_refusals_total", code=code) == count


def test_how_long_each_route_took_is_a_histogram(client: TestClient, agent_id: str) -> None:
    for _ in range(3):
        post(client, f"{agent_id}/heartbeat", BEAT)
    post(client, "nobody/state", report_of("nobody"))
    name = "opscore_ingest_duration_seconds"
    assert read(client, f"{name}_count", route="heartbeat") == 3
    assert read(client, f"{name}_count", route="state") == 1
    assert read(client, f"{name}_count", route="states") == 0
    assert read(client, f"{name}_bucket", route="heartbeat", le="+Inf") == 3
    assert read(client, f"{name}_bucket", route="heartbeat", le="10.0") == 3
    assert (read(client, f"{name}_sum", route="heartbeat") or 0) > 0


def test_commits_and_what_waits_for_them_are_measured(client: TestClient, agent_id: str) -> None:
    before = read(client, "opscore_commit_callers_count", store="sqlite") or 0
    post(client, f"{agent_id}/state", report_of(agent_id))
    assert (read(client, "opscore_commit_callers_count", store="sqlite") or 0) > before
    assert read(client, "opscore_pending", what="reports") == 0
    assert read(client, "opscore_pending", what="heartbeats") == 0
    assert read(client, "opscore_watchers") == 0
    assert read(client, "opscore_doubt") == 0


def test_the_fleet_is_counted_at_most_every_few_seconds(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovedClock(NOW)
    client = connect(clock=clock)
    counted = []
    fleet = OpsCore.fleet

    async def noted(self: OpsCore) -> Any:
        counted.append(clock())
        return await fleet(self)

    monkeypatch.setattr(OpsCore, "fleet", noted)
    assert read(client, "opscore_agents", state="UNKNOWN") == 0
    register(client)
    clock.move(4)
    assert read(client, "opscore_agents", state="UNKNOWN") == 0
    clock.move(1)
    assert read(client, "opscore_agents", state="UNKNOWN") == 1
    assert read(client, "opscore_instances", liveness="alive") == 0
    assert read(client, "opscore_agents_lost") == 0
    assert len(counted) == 2


def test_the_process_and_the_release_are_told(client: TestClient) -> None:
    assert (read(client, "process_open_fds") or 0) > 0
    release = client.get("/health").json()["version"]
    assert read(client, "opscore_build_info", version=release, store="sqlite") == 1


def test_what_can_be_measured_without_the_database_is(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(self: OpsCore) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(OpsCore, "fleet", away)
    assert read(client, "opscore_reports_total", outcome="accepted") == 0
    assert read(client, "opscore_agents", state="idle") is None


def test_a_reader_that_prefers_openmetrics_gets_it(client: TestClient) -> None:
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = client.get("/metrics", headers=wanted)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "opscore_reports" in {family.name for family in openmetrics_families(answer.text)}


def test_two_servers_in_one_process_count_apart(connect: Connect) -> None:
    one, other = connect(), connect()
    one.get("/nowhere")
    assert read(one, "opscore_refusals_total", code="not_found") == 1
    assert read(other, "opscore_refusals_total", code="not_found") is None


def test_it_needs_a_key_that_reads_unless_it_is_made_public(
    connect: Connect, tmp_path: Any
) -> None:
    path = tmp_path / "keys.toml"
    scopes = {"reader": "read", "agent": "agent:*"}
    keys = [Key(name, digest(name.encode()), Scope.parse(s)) for name, s in scopes.items()]
    path.write_text("\n".join(map(toml_entry, keys)))
    locked = connect(api_key=KEY, api_keys_file=path)
    for key, status in ((None, 401), ("agent", 403), ("reader", 200), (KEY, 200)):
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        assert locked.get("/metrics", headers=headers).status_code == status
    public = connect(api_key=KEY, metrics_public=True)
    assert public.get("/metrics").status_code == 200
    assert public.get("/v1/opscore/agents").status_code == 401


def test_tasks_are_counted_by_state_and_by_their_end(connect: Connect) -> None:
    clock = MovedClock(NOW)
    client = connect(clock=clock, dispatch=False)
    agent_id = register(client, contactEndpoint="http://127.0.0.1:9/task")
    client.post(f"/v1/opscore/agent/{agent_id}/state", json=report_of(agent_id))
    tasks = [{"taskId": name, "name": name, "agentId": agent_id} for name in ("a", "b")]
    tasks[1]["dependsOn"] = ["a"]  # type: ignore[assignment]
    body = {"workflowDefinition": {"id": "wf", "name": "W", "tasks": tasks}}
    assert client.post(f"/v1/opscore/agent/{agent_id}/workflow", json=body).status_code == 202
    assert read(client, "opscore_tasks", state="ready") == 1
    assert read(client, "opscore_tasks", state="waiting") == 1
    assert read(client, "opscore_tasks", state="running") == 0
    assert client.portal is not None
    (claim,) = client.portal.call(client.app.state.engine.claim, 1)  # type: ignore[attr-defined]
    client.post(f"/v1/opscore/tasks/{attempt_id(claim.task)}/result", json={"result": 1})
    assert read(client, "opscore_tasks_ended_total", state="completed") == 1
    assert read(client, "opscore_tasks_ended_total", state="failed") == 0
    clock.move(6)  # for so long it is not counted again
    assert read(client, "opscore_tasks", state="waiting") == 0


def test_attempts_that_cannot_be_sent_are_counted_by_way_and_outcome(connect: Connect) -> None:
    client = connect(clock=lambda: NOW, allowed_endpoints="10.0.0.0/8")
    agent_id = register(client, contactEndpoint="http://127.0.0.1:9/task")
    client.post(f"/v1/opscore/agent/{agent_id}/state", json=report_of(agent_id))
    tasks = [{"taskId": "a", "name": "A", "agentId": agent_id}]
    body = {"workflowDefinition": {"id": "wf", "name": "W", "tasks": tasks}}
    assert client.post(f"/v1/opscore/agent/{agent_id}/workflow", json=body).status_code == 202
    wait_until(
        lambda: read(client, "opscore_task_sends_total", route="direct", outcome="failed") == 1
    )
    assert read(client, "opscore_task_claims_total") == 1
    assert read(client, "opscore_task_latency_seconds_count") == 0
