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
