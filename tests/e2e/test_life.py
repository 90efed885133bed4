"""An agent's life as Ops-Core sees it, between two real processes."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from pathlib import Path

import httpx
import pytest

from opscore_middleware.core.models import Registration
from tests.e2e.conftest import KEY, Seen
from tests.e2e.processes import AgentProcess, running_agent
from tests.support.measuring import least
from tests.support.waiting import wait_until

LIFE = ["initializing", "idle"]


def test_a_life_from_registration_to_sigterm(
    tmp_path: Path, env: dict[str, str], seen: Seen
) -> None:
    registered = seen.client.register_agent(Registration(agent_name=seen.name))
    assert registered.state == seen.state == "UNKNOWN"
    with running_agent(tmp_path, OPSCORE_AGENT_ID=registered.agent_id, **env) as agent:
        seen.wait_for(*LIFE)
        holding = threading.Thread(target=agent.http.post, args=("/hold",))
        holding.start()
        wait_until(lambda: seen.state == "active")
        agent.http.get("/release")
        holding.join()
        seen.wait_for(*LIFE, "active", "idle")
        assert agent.http.post("/fail").status_code == 500
        error = seen.wait_for(*LIFE, "active", "idle", "active", "error")[-1].details
        assert error == {
            "error": {
                "type": "ValueError",
                "message": "the agent lost its place",
                "where": "POST /fail",
            }
        }
        agent.signal(signal.SIGTERM)
        _, took = agent.ends()
    history = seen.wait_for(*LIFE, "active", "idle", "active", "error", "draining", "finished")
    assert [transition.sequence for transition in history] == list(range(1, 9))
    assert len({transition.instance_id for transition in history}) == 1
    assert took < 2
    assert KEY not in agent.log


def test_active_is_there_within_50_ms_of_a_requests_start(
    tmp_path: Path, env: dict[str, str], seen: Seen
) -> None:
    with running_agent(tmp_path, **env) as agent:
        seen.wait_for(*LIFE)

        def median_delay() -> float:
            before = len(seen.states)
            for n in range(20):
                agent.http.post("/job")
                wait_until(lambda n=n: len(seen.states) == before + 2 + 2 * n)
            active = [t for t in seen.history[before:] if t.state == "active"]
            assert len(active) == 20
            # Both processes share one clock: from when it began to when Ops-Core had it.
            return statistics.median((t.received_at - t.timestamp).total_seconds() for t in active)

        assert least(median_delay, below=0.05) < 0.05


def test_the_command_line_names_the_agent(tmp_path: Path, env: dict[str, str], seen: Seen) -> None:
    del env["OPSCORE_AGENT_NAME"]
    seen.name = "tests.e2e.agent_app"
    with running_agent(tmp_path, **env) as agent:
        seen.wait_for(*LIFE)
        agent.signal()
        agent.ends()


def test_a_start_that_fails_is_told_with_its_cause(
    tmp_path: Path, env: dict[str, str], seen: Seen
) -> None:
    agent = AgentProcess(tmp_path / "agent.log", FAIL_TO_START="1", **env)
    try:
        code, _ = agent.ends()
    finally:
        agent.close()
    assert code != 0
    details = seen.wait_for("initializing", "error")[-1].details
    message = "no weights at /models"
    assert details == {"error": {"type": "LookupError", "message": message, "phase": "startup"}}


@pytest.mark.parametrize("lifespan", ["on", "off"])
def test_an_agent_without_lifespan_is_seen_by_its_work(
    tmp_path: Path, env: dict[str, str], seen: Seen, lifespan: str
) -> None:
    with running_agent(tmp_path, "--lifespan", lifespan, **env) as agent:
        seen.wait_for(*(LIFE if lifespan == "on" else ["idle"]))
        agent.http.post("/job")
        wait_until(lambda: seen.states[-2:] == ["active", "idle"])


def test_ctrl_c_twice_still_says_finished(tmp_path: Path, env: dict[str, str], seen: Seen) -> None:
    with running_agent(tmp_path, **env) as agent:
        seen.wait_for(*LIFE)
        holding = threading.Thread(target=_hold, args=(agent,))
        holding.start()
        wait_until(lambda: seen.state == "active")
        agent.signal(signal.SIGINT)
        wait_until(lambda: "Waiting for connections to close" in agent.log)
        agent.signal(signal.SIGINT)
        agent.ends()
        holding.join()
    assert seen.states[-1] == "finished"
    assert seen.state == "finished"


def _hold(agent: AgentProcess) -> None:
    with pytest.raises(httpx.HTTPError):
        agent.http.post("/hold").raise_for_status()


def test_each_worker_process_is_an_instance_of_one_agent(
    tmp_path: Path, env: dict[str, str], seen: Seen
) -> None:
    del env["OPSCORE_AGENT_NAME"]  # workers find the name by themselves
    seen.name = "tests.e2e.agent_app"
    already = len(seen.client.get_agent(seen.agent_id).instances) if seen.agent_id else 0
    with running_agent(tmp_path, "--workers", "2", **env) as agent:
        wait_until(lambda: seen.agent_id)
        wait_until(
            lambda: len(seen.client.get_agent(seen.agent_id).instances) == already + 2,
            message="two instances",
        )
        wait_until(lambda: seen.state == "idle")
        agent.signal()
        agent.ends()
    wait_until(lambda: seen.state == "finished")
    assert seen.states.count("finished") == already + 2


def test_a_rolling_restart_leaves_the_agent_idle(
    tmp_path: Path, env: dict[str, str], seen: Seen
) -> None:
    with running_agent(tmp_path, **env) as old:
        seen.wait_for(*LIFE)
        with running_agent(tmp_path, **env):
            wait_until(lambda: seen.states == LIFE * 2)
            old.signal()
            old.ends()
            wait_until(lambda: seen.states[-1] == "finished")
            assert seen.state == "idle"


def test_an_unreachable_ops_core_costs_requests_nothing(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9"  # nobody listens on the discard port
    with running_agent(tmp_path, OPSCORE_API_URL=url, OPSCORE_API_KEY=KEY) as agent:
        started = time.perf_counter()
        for _ in range(200):
            assert agent.http.post("/job").status_code == 200
        assert (time.perf_counter() - started) / 200 < 0.05
        wait_until(lambda: agent.lines)
    assert len(agent.lines) == 1
    assert KEY not in agent.log


def test_sigterm_says_draining_at_once_though_a_stream_is_open(
    tmp_path: Path, env: dict[str, str], seen: Seen
) -> None:
    """The server waits for the stream without end; Ops-Core must not wait to hear of it."""
    with running_agent(tmp_path, **env) as agent:
        seen.wait_for(*LIFE)
        with agent.http.stream("POST", "/stream") as stream:
            chunks = stream.iter_bytes()
            next(chunks)
            wait_until(lambda: seen.state == "active")
            agent.signal()
            wait_until(lambda: seen.states[-1] == "draining", timeout=2)
            next(chunks)  # it goes on
            assert not agent.ended
        agent.ends()
    seen.wait_for(*LIFE, "active", "draining", "finished")


def test_a_killed_agent_is_lost_and_a_silent_idle_one_is_not(
    tmp_path: Path, env: dict[str, str], seen: Seen
) -> None:
    with running_agent(tmp_path, OPSCORE_HEARTBEAT_INTERVAL="0.2", **env) as agent:
        seen.wait_for(*LIFE)
        first = seen.client.get_agent(seen.agent_id).instances[0].last_seen_at
        wait_until(lambda: seen.client.get_agent(seen.agent_id).instances[0].last_seen_at > first)
        assert seen.states == LIFE  # heartbeats change no state and make no history
        agent.signal(signal.SIGKILL)
        agent.ends()
    wait_until(lambda: seen.client.get_agent(seen.agent_id).lost)
