"""Ops-Core away, silent or back: the agent serves as ever, and everything is told in the end."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import httpx
import pytest

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Transition
from tests.e2e.conftest import KEY, Seen
from tests.e2e.processes import running_agent
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import wait_until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("away", [1.5, pytest.param(10.0, marks=pytest.mark.soak)])
def test_what_happened_while_ops_core_was_away_arrives_in_order(
    tmp_path: Path, away: float
) -> None:
    port, name = free_port(), "patient"
    env = {
        "OPSCORE_API_URL": f"http://127.0.0.1:{port}",
        "OPSCORE_API_KEY": KEY,
        "OPSCORE_AGENT_NAME": name,
    }
    with running_agent(tmp_path, **env) as agent:
        until, served, slowest = time.monotonic() + away, 0, 0.0
        while time.monotonic() < until:
            started = time.perf_counter()
            assert agent.http.post("/job").status_code == 200
            served, slowest = served + 1, max(slowest, time.perf_counter() - started)
        agent.http.post("/fail")
        assert slowest < 1
        with (
            running_opscore(tmp_path, KEY, port=port) as opscore,
            OpsCoreClient(opscore.url, KEY) as client,
        ):
            seen, put = Seen(client, name), 2 + 2 * served + 2
            wait_until(lambda: _told(seen.history) >= put, timeout=30, message="all to be told")
            history = seen.history
            assert [t.state for t in history[:4]] == ["initializing", "idle", "active", "idle"]
            sequences = [t.sequence or 0 for t in history]
            assert sequences == sorted(set(sequences))
            # The error may have been held until it passed, and so be folded into the idle after.
            assert history[-1].state in {"error", "idle"}
            assert sum((t.state == "error") + t.errors for t in history) == 1
            assert _told(history) == sequences[-1]
            agent.http.post("/job")
            wait_until(lambda: seen.states[-2:] == ["active", "idle"])
            wait_until(lambda: len(agent.lines) == 2)
    assert "does not take reports" in agent.lines[0]
    assert "takes reports again" in agent.lines[1]


def _told(history: list[Transition]) -> int:
    return sum(1 + t.coalesced for t in history)


@pytest.mark.parametrize("works", [True, False], ids=["working", "idle"])
def test_a_restart_of_ops_core_with_a_fresh_database_gets_the_agent_back(
    tmp_path: Path, works: bool
) -> None:
    with running_opscore(tmp_path, KEY) as opscore:
        env = {
            "OPSCORE_API_URL": opscore.url,
            "OPSCORE_API_KEY": KEY,
            "OPSCORE_AGENT_NAME": "phoenix",
            # An agent that does nothing finds out by its heartbeat, one that works at once.
            "OPSCORE_HEARTBEAT_INTERVAL": "60" if works else "0.3",
        }
        with running_agent(tmp_path, **env) as agent, OpsCoreClient(opscore.url, KEY) as client:
            seen = Seen(client, "phoenix")
            seen.wait_for("initializing", "idle")
            opscore.kill()
            _forget(opscore)
            opscore.start()
            if works:
                agent.http.post("/job")
                wait_until(lambda: seen.states[-2:] == ["active", "idle"])
            else:
                wait_until(lambda: seen.states == ["idle"])


def _forget(opscore: OpsCoreProcess) -> None:
    for file in opscore.database.parent.glob("opscore.db*"):
        file.unlink()


def test_a_black_hole_costs_no_request_and_half_a_second_at_the_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:  # accepts, never answers
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        without = _time_to_end(tmp_path, {})
        with_us = _time_to_end(tmp_path, {"OPSCORE_API_URL": url, "OPSCORE_API_KEY": KEY})
    assert with_us < without + 0.6  # half a second, and what two processes may differ by


def _time_to_end(tmp_path: Path, env: dict[str, str]) -> float:
    with running_agent(tmp_path, **env) as agent:
        delays = []
        for _ in range(100):
            started = time.perf_counter()
            assert agent.http.post("/job").status_code == 200
            delays.append(time.perf_counter() - started)
        assert sorted(delays)[98] < 0.25
        agent.signal()
        _, took = agent.ends()
    return took


def test_a_wrong_key_is_told_once_and_never_shown(tmp_path: Path) -> None:
    wrong = "wr0ng-k3y"
    with running_opscore(tmp_path, KEY) as opscore:
        env = {"OPSCORE_API_URL": opscore.url, "OPSCORE_API_KEY": wrong}
        with running_agent(tmp_path, "--log-level", "debug", **env) as agent:
            for _ in range(50):
                agent.http.post("/job")
            wait_until(lambda: agent.lines)
            agent.signal()
            agent.ends()
    [line] = agent.lines
    assert "OPSCORE_API_KEY" in line
    assert wrong not in agent.log
    assert wrong not in opscore.log()
    assert KEY not in opscore.log()


def test_an_agent_serves_though_nobody_ever_listens(tmp_path: Path) -> None:
    with running_agent(tmp_path, OPSCORE_API_URL=f"http://127.0.0.1:{free_port()}") as agent:
        assert httpx.post(f"{agent.url}/job").status_code == 200
        agent.signal()
        _, took = agent.ends()
    assert took < 2
