"""Every server leaves the same traces at Ops-Core, or others for a reason that is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from opscore_middleware.testing import RunningOpsCore
from tests.traps.drivers import Connection
from tests.traps.expected import CLIENTS, DIFFERENT, EXPECTED, expected, runners
from tests.traps.lives import Doing, Trace, Witness
from tests.traps.servers import SERVERS, serving

TraceUnder = Callable[[str, str], Trace]


def wherever_played(*scenarios: str) -> pytest.MarkDecorator:
    """Run a test for each of the scenarios under each server and client that can play it."""
    return pytest.mark.parametrize(
        ("scenario", "runner"),
        [(scenario, runner) for scenario in scenarios for runner in runners(scenario)],
    )


@pytest.mark.trap("1", "2", "12", "33")
@wherever_played("start", "POST", "POST at the end")
def test_an_agent_is_idle_once_it_serves_and_active_while_it_works(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("18", "19", "21")
@wherever_played("POST that raises", "HTTPException(503)", "status 503", "streaming that raises")
def test_each_way_to_fail_is_one_error(scenario: str, runner: str, trace_under: TraceUnder) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("22")
@wherever_played("background task", "background task that raises")
def test_background_tasks_are_work_until_their_end(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("25", "28")
@wherever_played("streaming", "client gone in mid-stream")
def test_a_stream_is_one_piece_of_work_and_a_client_that_leaves_it_no_error(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("32")
@wherever_played("health probes", "listener of events")
def test_probes_and_listeners_are_no_work(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("27")
@wherever_played("websocket with two messages")
def test_each_websocket_message_is_work_and_the_open_socket_is_not(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("4")
@wherever_played("startup failure")
def test_a_failed_start_is_told_before_the_server_exits(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("7")
@wherever_played("stop", "SIGTERM")
def test_a_process_that_is_asked_to_end_says_draining_and_finished(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("6")
@wherever_played("SIGTERM with a stream open")
def test_draining_is_told_at_once_though_a_stream_stays_open(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("5")
@wherever_played("two SIGINTs")
def test_a_second_ctrl_c_still_lets_finished_be_told(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("14")
@wherever_played("rolling restart")
def test_a_rolling_restart_leaves_the_agent_idle(
    scenario: str, runner: str, trace_under: TraceUnder
) -> None:
    assert trace_under(runner, scenario) == expected(runner, scenario)


@pytest.mark.trap("13")
def test_four_workers_are_four_instances_of_one_agent(shared_opscore: RunningOpsCore) -> None:
    witness = Witness(shared_opscore, "uvicorn with four workers")
    env = shared_opscore.environ | {"OPSCORE_AGENT_NAME": witness.agent}
    with serving("uvicorn httptools", "--workers", "4", **env) as process:
        assert sorted(witness.sees(8)) == ["idle"] * 4 + ["initializing"] * 4
        agent = shared_opscore.agent(witness.agent)
        assert len({instance.instance_id for instance in agent.instances}) == 4
        assert agent.state == "idle"
        connection = Connection(process.url)
        for _ in range(20):
            assert connection.post("/job") == 200
        connection.close()
        assert sorted(witness.sees(40)) == ["active"] * 20 + ["idle"] * 20
        process.terminate()
        assert process.ends() == 0
    assert sorted(witness.sees(8)) == ["draining"] * 4 + ["finished"] * 4
    lives: dict[str | None, list[str]] = {}
    for transition in sorted(witness.history, key=lambda t: t.sequence or 0):
        lives.setdefault(transition.instance_id, []).append(transition.state)
    assert len(lives) == 4
    for states in lives.values():
        assert (states[:2], states[-2:]) == (["initializing", "idle"], ["draining", "finished"])
    assert shared_opscore.agent(witness.agent).state == "finished"


@pytest.mark.trap("8")
def test_a_request_cut_at_the_graceful_timeout_leaves_finished_alone(
    shared_opscore: RunningOpsCore,
) -> None:
    witness = Witness(shared_opscore, "uvicorn in haste")
    env = shared_opscore.environ | {"OPSCORE_AGENT_NAME": witness.agent}
    options = ("--timeout-graceful-shutdown", "1")
    with serving("uvicorn httptools", *options, **env) as process:
        witness.sees(2)
        connection = Connection(process.url)
        held = Doing(connection.post, "/hold")
        assert witness.sees(1) == ["active"]
        process.terminate()
        process.ends()
        held.ends()
        connection.close()
    assert witness.sees(2) == ["draining", "finished"]
    assert shared_opscore.agent(witness.agent).state == "finished"


def test_every_scenario_and_every_difference_is_held_to() -> None:
    """A line of the table that no test reads would be a promise that nobody keeps."""
    played = set(re.findall(r'"([^"\n]+)"', Path(__file__).read_text()))
    assert EXPECTED.keys() <= played
    assert {scenario for _, scenario in DIFFERENT} <= EXPECTED.keys()
    assert {runner for runner, _ in DIFFERENT} <= SERVERS.keys() | CLIENTS.keys()
    for (_, scenario), different in DIFFERENT.items():
        assert different.trace != EXPECTED[scenario]
        assert different.why
