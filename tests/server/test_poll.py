"""The long poll: a question for a state that is left open until there is news."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.reporters import Reporters
from tests.support.waiting import TIMEOUT


@pytest.fixture(scope="module")
def opscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpsCoreProcess]:
    """Return a running Ops-Core without a key."""
    with running_opscore(tmp_path_factory.mktemp("opscore")) as process:
        yield process


@pytest.fixture(scope="module")
def agents(opscore: OpsCoreProcess) -> Iterator[Reporters]:
    reporters = Reporters(opscore)
    yield reporters
    reporters.http.close()


def ask(agents: Reporters, agent_id: str, **query: Any) -> dict[str, Any]:
    """Ask for an agent's state."""
    answer = agents.http.get(f"/agent/{agent_id}/state", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_answer_without_a_wait_is_what_it_always_was(agents: Reporters) -> None:
    agent_id = agents.register()
    assert list(ask(agents, agent_id)) == ["agentId", "state", "details", "timestamp"]


def test_a_wait_of_nothing_answers_at_once_with_the_place_to_go_on_from(
    agents: Reporters,
) -> None:
    agent_id = agents.register()
    agents.report(agent_id, "idle")
    seen = ask(agents, agent_id, wait="0s")
    assert seen["state"] == "idle"
    assert seen["eventId"] == agents.history(agent_id)[-1]["eventId"]


def test_what_came_since_is_answered_at_once(agents: Reporters) -> None:
    agent_id = agents.register()
    before = ask(agents, agent_id, wait=0)["eventId"]
    agents.report(agent_id, "active")
    began = time.monotonic()
    seen = ask(agents, agent_id, wait="60s", after=before)
    assert time.monotonic() - began < TIMEOUT / 2
    assert (seen["state"], seen["eventId"] > before) == ("active", True)


def test_an_open_question_is_answered_by_the_agents_own_next_event(
    opscore: OpsCoreProcess, agents: Reporters
) -> None:
    agent_id, other = agents.register(), agents.register()
    host, port = opscore.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), TIMEOUT) as question:
        path = f"/v1/opscore/agent/{agent_id}/state?wait=30s"
        question.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        # Read after what was sent before; an answer to this one would be the older state.
        agents.report(other, "active")
        agents.history(other)
        agents.report(agent_id, "error", details={"why": "no ink"})
        answer = b"".join(iter(lambda: question.recv(65536), b""))
    assert b'"state":"error","details":{"why":"no ink"}' in answer


def test_time_that_is_over_is_answered_with_the_state_as_it_is(agents: Reporters) -> None:
    agent_id = agents.register()
    agents.report(agent_id, "idle")
    before = ask(agents, agent_id, wait=0)["eventId"]
    began = time.monotonic()
    seen = ask(agents, agent_id, wait="300ms", after=before)
    assert 0.3 <= time.monotonic() - began < TIMEOUT / 2
    assert (seen["state"], seen["eventId"]) == ("idle", before)


def test_whoever_asks_again_and_again_misses_no_state(agents: Reporters) -> None:
    agent_id = agents.register()
    place = ask(agents, agent_id, wait=0)["eventId"]
    states = ["active", "idle"] * 5
    seen = []
    with ThreadPoolExecutor(1) as thread:
        for sequence, state in enumerate(states, 1):
            question = thread.submit(ask, agents, agent_id, wait="30s", after=place)
            agents.report(agent_id, state, first=sequence)
            answer = question.result()
            place = answer["eventId"]
            seen.append(answer["state"])
    assert seen == states


def test_a_place_in_another_database_is_answered_at_once(agents: Reporters) -> None:
    agent_id = agents.register()
    began = time.monotonic()
    seen = ask(agents, agent_id, wait="60s", after=10**12)
    assert time.monotonic() - began < TIMEOUT / 2
    assert seen["eventId"] < 10**12


@pytest.mark.parametrize("query", ["wait=61s", "wait=soon", "wait=-1", "after=-1"])
def test_a_wait_that_cannot_be_is_refused(agents: Reporters, query: str) -> None:
    answer = agents.http.get(f"/agent/{agents.register()}/state?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_nobody_is_waited_for_who_is_not_known_or_was_taken_out(agents: Reporters) -> None:
    assert agents.http.get("/agent/nobody/state?wait=30s").status_code == 404
    agent_id = agents.register()
    agents.http.delete(f"/agents/{agent_id}")
    assert agents.http.get(f"/agent/{agent_id}/state?wait=30s").status_code == 410


def test_waiting_needs_a_key(tmp_path: Path) -> None:
    with running_opscore(tmp_path, key="open-sesame") as opscore:
        answer = httpx.get(f"{opscore.url}/v1/opscore/agent/a/state?wait=30s")
    assert answer.status_code == 401
