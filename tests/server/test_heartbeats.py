"""Heartbeats, and agents that are taken out, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import Connect, everything, register, report_of
from tests.support.clock import MovedClock

BEAT: dict[str, Any] = {
    "instanceId": "i",
    "startedAt": "2026-09-21T14:00:00Z",
    "state": "active",
    "sequence": 5,
    "intervalSeconds": 10,
}


def beat(client: TestClient, agent_id: str, **fields: Any) -> Any:
    return client.post(f"/v1/opscore/agent/{agent_id}/heartbeat", json={**BEAT, **fields})


def test_a_heartbeat_on_a_fresh_database_learns_that_nothing_is_known(
    client: TestClient, agent_id: str
) -> None:
    answer = beat(client, agent_id)
    assert answer.status_code == 200
    assert answer.json() == {
        "state": "UNKNOWN",
        "lastSequence": 0,
        "drain": False,
        "cancel": [],
        "intervalSeconds": 10.0,
    }
    agent = client.get(f"/v1/opscore/agents/{agent_id}").json()
    assert agent["state"] == "UNKNOWN"
    (instance,) = agent["instances"]
    assert (instance["instanceId"], instance["state"]) == ("i", "UNKNOWN")


def test_a_heartbeat_learns_the_last_sequence_and_shows_how_the_instance_is(
    client: TestClient, agent_id: str
) -> None:
    path = f"/v1/opscore/agent/{agent_id}/state"
    client.post(path, json=report_of(agent_id, "idle", instanceId="i", sequence=4))
    answer = beat(client, agent_id, loopLagSeconds=0.25, inFlight=2).json()
    assert (answer["state"], answer["lastSequence"]) == ("idle", 4)
    (instance,) = client.get(f"/v1/opscore/agents/{agent_id}").json()["instances"]
    shown = {"liveness", "intervalSeconds", "loopLagSeconds", "inFlight", "state"}
    assert {name: instance[name] for name in shown} == {
        "liveness": "alive",
        "intervalSeconds": 10.0,
        "loopLagSeconds": 0.25,
        "inFlight": 2,
        "state": "idle",
    }


BAD_BEATS: dict[str, dict[str, Any]] = {
    "no instance": {"instanceId": None},
    "no interval": {"intervalSeconds": 0},
    "an interval of more than a day": {"intervalSeconds": 86401},
    "an interval that is none": {"intervalSeconds": "soon"},
    "a sequence below zero": {"sequence": -1},
    "a sequence beyond 64 bits": {"sequence": 2**70},
    "a lag below zero": {"loopLagSeconds": -0.1},
    "a start without an offset": {"startedAt": "2026-09-21T14:00:00"},
    "a start before all time": {"startedAt": "0001-01-01T00:00:00+23:59"},
}


@pytest.mark.parametrize("case", BAD_BEATS)
def test_a_bad_heartbeat_is_refused_and_leaves_nothing(
    client: TestClient, agent_id: str, case: str
) -> None:
    before = everything(client, agent_id)
    answer = beat(client, agent_id, **BAD_BEATS[case])
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert everything(client, agent_id) == before


def test_a_stranger_s_heartbeat_is_not_found(client: TestClient) -> None:
    answer = beat(client, "nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "agent_not_found")
    assert client.get("/v1/opscore/agents").json()["items"] == []


def test_a_heartbeat_needs_the_key(connect: Connect) -> None:
    assert beat(connect(api_key="open-sesame"), "a").status_code == 401


def test_a_silent_agent_is_shown_as_lost_once_ops_core_has_listened_long_enough(
    connect: Connect,
) -> None:
    clock = MovedClock()
    client = connect(clock=clock)
    agent_id = register(client)
    client.post(f"/v1/opscore/agent/{agent_id}/state", json=report_of(agent_id, instanceId="i"))
    beat(client, agent_id)

    def lost() -> bool:
        return bool(client.get(f"/v1/opscore/agents/{agent_id}").json()["lost"])

    for _ in range(8):
        clock.move(4)
        assert not lost()
        client.portal.call(client.app.state.opscore.tick)  # type: ignore[union-attr,attr-defined]
    assert lost()
    beat(client, agent_id)
    assert not lost()


# --- taken out -----------------------------------------------------------------------------------


def test_an_agent_that_was_taken_out_is_gone_until_it_is_registered_again(
    client: TestClient, agent_id: str
) -> None:
    path = f"/v1/opscore/agents/{agent_id}"
    state = f"/v1/opscore/agent/{agent_id}/state"
    client.post(state, json=report_of(agent_id, "idle"))
    for _ in range(2):
        answer = client.delete(path)
        assert (answer.status_code, answer.content) == (204, b"")
    refusals = [
        client.post(state, json=report_of(agent_id, "active")),
        client.post(f"{state}s", json={"reports": [report_of(agent_id, "active")]}),
        beat(client, agent_id),
        client.get(state),
        client.get(path),
    ]
    for refusal in refusals:
        assert (refusal.status_code, refusal.json()["code"]) == (410, "agent_deregistered")
        assert refusal.json()["agentId"] == agent_id
    assert client.get("/v1/opscore/agents").json()["items"] == []
    history = client.get(f"{path}/history").json()["items"]
    assert [t["state"] for t in history] == ["idle"]

    assert register(client) == agent_id
    assert client.get(state).json()["state"] == "idle"
    assert client.post(state, json=report_of(agent_id, "active")).status_code == 202
    assert beat(client, agent_id).status_code == 200


def test_whom_nobody_knows_nobody_can_take_out(client: TestClient) -> None:
    answer = client.delete("/v1/opscore/agents/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "agent_not_found")


def test_taking_out_needs_the_key(connect: Connect) -> None:
    assert connect(api_key="open-sesame").delete("/v1/opscore/agents/a").status_code == 401
