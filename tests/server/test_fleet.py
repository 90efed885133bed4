"""The fleet over HTTP and from the command line."""

from __future__ import annotations

import sys

import httpx
import pytest
from starlette.testclient import TestClient

from opscore_middleware.cli import main
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.testing import RunningOpsCore
from tests.server.conftest import NOW_TEXT, register, report_of


def test_the_fleet_is_counted(client: TestClient) -> None:
    for name, state in (("a", "idle"), ("b", "idle"), ("c", "error"), ("d", None)):
        agent_id = register(client, name, agentId=name)
        if state is not None:
            report = report_of(agent_id, state, instanceId="i")
            client.post(f"/v1/opscore/agent/{agent_id}/state", json=report)
    beat = {"instanceId": "i", "state": "idle", "sequence": 1, "intervalSeconds": 10}
    client.post("/v1/opscore/agent/c/heartbeat", json=beat)
    fleet = client.get("/v1/opscore/fleet").json()
    assert {state: count for state, count in fleet["states"].items() if count} == {
        "UNKNOWN": 1,
        "idle": 2,
        "error": 1,
    }
    assert (fleet["agents"], fleet["lost"]) == (4, 0)
    assert fleet["liveness"] == {"alive": 3, "late": 0, "lost": 0}
    assert fleet["longestSilent"] == {
        "agentId": "c",
        "agentName": "c",
        "instanceId": "i",
        "since": NOW_TEXT,
    }
    assert fleet["reportsPerSecond"] >= 0


def opscore(*arguments: str, server: RunningOpsCore, monkeypatch: pytest.MonkeyPatch) -> int:
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["opscore", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def ops_core(opscore: RunningOpsCore) -> RunningOpsCore:
    headers = {"Authorization": f"Bearer {opscore.api_key}"}
    with httpx.Client(base_url=opscore.url, headers=headers) as http:
        agent = http.post("/v1/opscore/agents", json={"agentName": "a"}).json()["agentId"]
        beat = {"instanceId": "i-7", "state": "idle", "sequence": 1, "intervalSeconds": 10}
        http.post(f"/v1/opscore/agent/{agent}/heartbeat", json=beat)
        report = report_of(agent, "active", instanceId="i-7")
        http.post(f"/v1/opscore/agent/{agent}/state", json=report)
    return opscore


def test_the_fleet_is_shown_as_a_table(
    ops_core: RunningOpsCore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert opscore("fleet", server=ops_core, monkeypatch=monkeypatch) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["active", "1", "late", "0"] in shown
    assert ["AGENTS", "INSTANCES"] in shown
    assert any(line[:2] == ["longest", "silent:"] and "i-7," in line for line in shown)


def test_the_fleet_is_printed_for_programs(
    ops_core: RunningOpsCore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert opscore("fleet", "--json", server=ops_core, monkeypatch=monkeypatch) == 0
    with OpsCoreClient(ops_core.url, ops_core.api_key) as client:
        assert client.fleet().states["active"] == 1
    assert '"active": 1' in capsys.readouterr().out


def test_the_fleet_is_drawn_again_until_it_is_enough(
    ops_core: RunningOpsCore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("opscore_middleware.cli.fleet.time.sleep", sleep)
    assert opscore("fleet", "--watch", server=ops_core, monkeypatch=monkeypatch) == 0
    assert pauses == [1.0, 1.0, 1.0]
    assert "active" in capsys.readouterr().out
