"""The server forgets what it is told to, and nothing else."""

from __future__ import annotations

import logging

import pytest
from anyio.lowlevel import checkpoint
from starlette.testclient import TestClient

from opscore_middleware.server import Settings, create_app
from tests.server.conftest import NOW, register, report_of
from tests.support.clock import MovedClock
from tests.support.waiting import wait_until

DAY = 86400


async def soon(seconds: float) -> None:
    await checkpoint()


def sequences(client: TestClient) -> list[int]:
    answer = client.get("/v1/opscore/agents/a/history?order=asc&limit=1000")
    return [transition["sequence"] for transition in answer.json()["items"]]


def report(client: TestClient, first: int, last: int) -> None:
    reports = [report_of("a", instanceId="i", sequence=n) for n in range(first, last + 1)]
    answer = client.post("/v1/opscore/agent/a/states", json={"reports": reports})
    assert answer.status_code == 202


@pytest.mark.parametrize(("days", "kept"), [(2, 1), (None, 1501)])
def test_transitions_older_than_it_is_told_are_forgotten(
    days: int | None, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "opscore_middleware")
    clock = MovedClock(NOW)
    settings = Settings.resolve(database_url="sqlite:///:memory:", history_days=days)
    with TestClient(create_app(settings, clock=clock, pause=soon)) as client:
        register(client, "a", agentId="a")
        report(client, 1, 1000)
        report(client, 1001, 1500)
        clock.move(2 * DAY)
        report(client, 1501, 1501)
        assert sequences(client)[0] == 1
        clock.move(1)
        if days is not None:
            wait_until(lambda: sequences(client) == [1501])
        assert client.get("/v1/opscore/agents/a").json()["instances"][0]["sequence"] == 1501
    forgotten = [r.__dict__["transitions"] for r in caplog.records if r.message.endswith("gotten")]
    assert sum(forgotten) == 1501 - kept


def test_an_agent_that_is_lost_for_as_long_as_it_said_is_taken_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "opscore_middleware")
    clock = MovedClock(NOW)

    async def a_second(seconds: float) -> None:
        if seconds == 1:  # the loop that listens; the others come round at once
            clock.move(1)
        await checkpoint()

    settings = Settings.resolve(database_url="sqlite:///:memory:")
    with TestClient(create_app(settings, clock=clock, pause=a_second)) as client:
        register(client, "a", agentId="a", deregisterAfter="1m")
        register(client, "b", agentId="b")
        assert client.get("/v1/opscore/agents/a").json()["deregisterAfter"] == 60
        assert client.get("/v1/opscore/agents/b").json()["deregisterAfter"] is None
        beat = {"instanceId": "i", "state": "idle", "sequence": 1, "intervalSeconds": 5}
        for agent_id in ("a", "b"):
            client.post(f"/v1/opscore/agent/{agent_id}/heartbeat", json=beat)
        wait_until(lambda: client.get("/v1/opscore/agents/a").status_code == 410)
        assert client.get("/v1/opscore/agents/b").status_code == 200
    out = [r.__dict__ for r in caplog.records if r.message == "agent_deregistered"]
    assert [(event["agent_id"], event["reason"]) for event in out] == [
        ("a", "lost for deregisterAfter")
    ]


@pytest.mark.parametrize("span", ["soon", 0, -5, "0s", "999999d"])
def test_a_span_that_is_none_is_refused(client: TestClient, span: object) -> None:
    body = {"agentName": "a", "deregisterAfter": span}
    answer = client.post("/v1/opscore/agents", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_instances_that_are_over_for_long_show_no_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "opscore_middleware")
    clock = MovedClock(NOW)
    settings = Settings.resolve(database_url="sqlite:///:memory:", instance_retention="2h")
    with TestClient(create_app(settings, clock=clock, pause=soon)) as client:
        register(client, "a", agentId="a")

        def shown() -> list[str]:
            agent = client.get("/v1/opscore/agents/a").json()
            return [instance["instanceId"] for instance in agent["instances"]]

        for instance, state in (("old", "finished"), ("new", "idle")):
            report = report_of("a", state, instanceId=instance)
            client.post("/v1/opscore/agent/a/state", json=report)
        clock.move(2 * 3600)
        assert shown() == ["old", "new"]
        clock.move(1)
        wait_until(lambda: shown() == ["new"])
    assert [r.__dict__["instances"] for r in caplog.records if r.message[:9] == "instances"] == [1]


@pytest.mark.parametrize(("days", "kept"), [(2, 1), (None, 2)])
def test_sessions_that_ended_long_ago_are_forgotten_with_their_tasks(
    days: int | None, kept: int
) -> None:
    clock = MovedClock(NOW)
    settings = Settings.resolve(
        database_url="sqlite:///:memory:", history_days=days, dispatch=False
    )
    with TestClient(create_app(settings, clock=clock, pause=soon)) as client:
        register(client, "a", agentId="a")
        tasks = [{"taskId": "t", "name": "T", "agentId": "a"}]
        start = {"workflowDefinition": {"id": "wf", "name": "W", "tasks": tasks}}
        ended, going = (
            client.post("/v1/opscore/agent/a/workflow", json=start).json()["sessionId"]
            for _ in range(2)
        )
        client.post(f"/v1/opscore/sessions/{ended}/cancel")

        def listed(noun: str) -> list[str]:
            items = client.get(f"/v1/opscore/{noun}").json()["items"]
            return [item["sessionId"] for item in items]

        clock.move(2 * DAY)
        assert len(listed("sessions")) == 2
        clock.move(1)
        wait_until(lambda: len(listed("sessions")) == kept)
        assert going in listed("sessions")
        assert sorted(listed("tasks")) == sorted(listed("sessions"))
        assert client.get("/v1/opscore/workflows/wf").status_code == 200
