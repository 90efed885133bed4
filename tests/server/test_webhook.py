"""AgentKit's webhook over HTTP: what is taken, what is refused, and that nothing is done twice."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from opscore_middleware.protocol.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from tests.server.conftest import Connect, register, report_of
from tests.support.clock import MovedClock

NOTIFY = "/v1/opscore/internal/agent/notify"
SECRET = "shared-with-agentkit"
UNIX = "1790000000"
ISO = "2026-09-21T14:13:20Z"
ELSEWHERE = "10.0.0.7"


def body(kind: str = "REGISTER", **fields: Any) -> bytes:
    """A webhook's body as AgentKit writes it."""
    details = {
        "agentId": "a-1",
        "agentName": "agent-none",
        "capabilities": ["echo"],
        "version": "1.0",
        "contactEndpoint": "http://127.0.0.1:44551/task",
        "metadata": None,
        "registration_time": "2026-09-21T14:13:20.377149Z",
        **fields,
    }
    return json.dumps(
        {"event_type": kind, "agent_details": details}, separators=(",", ":")
    ).encode()


def signed(content: bytes, timestamp: str = UNIX, secret: str = SECRET) -> dict[str, str]:
    return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign(content, timestamp, secret)}


def tell(
    client: TestClient, content: bytes, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    answer = client.post(
        NOTIFY, content=content, headers={"Content-Type": "application/json", **(headers or {})}
    )
    return answer.status_code, answer.json()


def known(client: TestClient) -> list[Any]:
    found: list[Any] = client.get("/v1/opscore/agents").json()["items"]
    return found


@pytest.fixture
def client(connect: Connect) -> TestClient:
    """Return a client on another machine, of an Ops-Core that knows AgentKit's secret."""
    return connect(webhook_secret=SECRET, peer=ELSEWHERE)


# --- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize("timestamp", [UNIX, ISO, "2026-09-21T16:13:20.5+02:00", "1790000300"])
@pytest.mark.parametrize("metadata", [None, {}, {"description": "d", "config": {"n": 1}}])
def test_a_signed_registration_makes_the_agent_known(
    client: TestClient, timestamp: str, metadata: Any
) -> None:
    content = body(metadata=metadata)
    status, answer = tell(client, content, signed(content, timestamp))
    assert (status, answer["status"]) == (200, "success")
    assert "a-1" in answer["message"]
    (agent,) = known(client)
    assert (agent["agentId"], agent["agentName"], agent["state"]) == (
        *("a-1", "agent-none", "UNKNOWN"),
    )
    assert agent["capabilities"] == ["echo"]
    assert agent["metadata"] == metadata


def test_it_needs_no_key(connect: Connect) -> None:
    client = connect(api_key="open-sesame", webhook_secret=SECRET, peer=ELSEWHERE)
    content = body()
    assert tell(client, content, signed(content))[0] == 200
    assert tell(client, content)[1]["code"] == "missing_signature"


def test_any_of_several_secrets_will_do_while_they_are_changed(connect: Connect) -> None:
    client = connect(webhook_secret="the new one, the old one", peer=ELSEWHERE)
    for secret in ("the new one", "the old one"):
        content = body(agentId=secret.replace(" ", "-"))
        assert tell(client, content, signed(content, secret=secret))[0] == 200
    content = body(agentId="third")
    status, answer = tell(client, content, signed(content, secret="the new one, the old one"))
    assert (status, answer["code"]) == (401, "invalid_signature")
    assert len(known(client)) == 2


def test_registering_again_updates_and_keeps_state_and_history(client: TestClient) -> None:
    first = body()
    tell(client, first, signed(first))
    client.post("/v1/opscore/agent/a-1/state", json=report_of("a-1", "active"))
    again = body(version="2.0", capabilities=["echo", "sum"])
    assert tell(client, again, signed(again))[0] == 200
    (agent,) = known(client)
    assert (agent["version"], agent["capabilities"]) == ("2.0", ["echo", "sum"])
    assert agent["state"] == "active"
    assert len(client.get("/v1/opscore/agents/a-1/history").json()["items"]) == 1


def test_a_deregistration_takes_the_agent_out_in_any_case(client: TestClient) -> None:
    register(client, "agent-none", agentId="a-1")
    content = b'{"event_type":"deregister","agent_details":{"agentId":"a-1"}}'
    assert tell(client, content, signed(content))[0] == 200
    assert client.get("/v1/opscore/agents/a-1").status_code == 410
    stranger = b'{"event_type":"DEREGISTER","agent_details":{"agentId":"nobody"}}'
    assert tell(client, stranger, signed(stranger))[0] == 200
    assert client.get("/v1/opscore/agents/nobody").status_code == 404


# --- repeats -------------------------------------------------------------------------------------


def test_the_same_webhook_again_has_no_second_effect(client: TestClient) -> None:
    registered, removed = body(), body("DEREGISTER")
    assert tell(client, registered, signed(registered))[0] == 200
    assert tell(client, removed, signed(removed))[0] == 200
    assert tell(client, registered, signed(registered))[0] == 200
    assert client.get("/v1/opscore/agents/a-1").status_code == 410
    later = signed(registered, "1790000001")
    assert tell(client, registered, later)[0] == 200
    assert tell(client, removed, signed(removed))[0] == 200
    assert client.get("/v1/opscore/agents/a-1").status_code == 200


def test_a_repeat_is_known_after_a_restart_and_stale_after_its_time(
    connect: Connect, tmp_path: Path
) -> None:
    clock = MovedClock()
    settings: dict[str, Any] = {
        "database_url": f"sqlite:///{tmp_path / 'opscore.db'}",
        "webhook_secret": SECRET,
        "clock": clock,
    }
    content = body()
    first = connect(**settings)
    assert tell(first, content, signed(content))[0] == 200
    assert first.delete("/v1/opscore/agents/a-1").status_code == 204
    first.__exit__(None, None, None)
    second = connect(**settings)
    clock.move(300)
    assert tell(second, content, signed(content))[0] == 200
    assert second.get("/v1/opscore/agents/a-1").status_code == 410
    clock.move(1)
    status, answer = tell(second, content, signed(content))
    assert (status, answer["code"]) == (401, "stale_signature")


# --- what is refused -----------------------------------------------------------------------------

GOOD = body()
REFUSED: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "no headers": (GOOD, {}, 401, "missing_signature"),
    "no timestamp": (
        *(GOOD, {SIGNATURE_HEADER: sign(GOOD, UNIX, SECRET)}, 401, "missing_signature"),
    ),
    "no signature": (GOOD, {TIMESTAMP_HEADER: UNIX}, 401, "missing_signature"),
    "another secret": (GOOD, signed(GOOD, secret="other"), 401, "invalid_signature"),
    "a byte changed": (*(GOOD.replace(b"none", b"nine"), signed(GOOD), 401, "invalid_signature"),),
    "a byte added": (GOOD + b" ", signed(GOOD), 401, "invalid_signature"),
    "another timestamp": (
        *(GOOD, {**signed(GOOD), TIMESTAMP_HEADER: "1790000001"}, 401, "invalid_signature"),
    ),
    "a timestamp that is none": (GOOD, signed(GOOD, "yesterday"), 401, "invalid_signature"),
    "a time without an offset": (
        *(GOOD, signed(GOOD, "2026-09-21T14:13:20"), 401, "invalid_signature"),
    ),
    "too old": (GOOD, signed(GOOD, "1789999699"), 401, "stale_signature"),
    "too far ahead": (GOOD, signed(GOOD, "1790000301"), 401, "stale_signature"),
    "another event": (*(body("UPDATE"), signed(body("UPDATE")), 400, "invalid_event_type"),),
    "no JSON": (b"REGISTER", signed(b"REGISTER"), 422, "validation_failed"),
    "nothing": (b"", signed(b""), 422, "validation_failed"),
    "no name": (body(agentName=""), signed(body(agentName="")), 422, "validation_failed"),
    "an id with a slash": (
        *(body(agentId="a/b"), signed(body(agentId="a/b")), 422, "validation_failed"),
    ),
    "metadata that is no object": (
        *(body(metadata=[1]), signed(body(metadata=[1])), 422, "validation_failed"),
    ),
    "too large": (b"x" * 2_000_000, {}, 413, "body_too_large"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shown_to_be_agentkits_is_refused_and_leaves_nothing(
    client: TestClient, case: str
) -> None:
    content, headers, status, code = REFUSED[case]
    answered, answer = tell(client, content, headers)
    assert (answered, answer["code"]) == (status, code)
    assert SECRET not in json.dumps(answer)
    assert known(client) == []
    # And it did not use the signature up.
    assert tell(client, GOOD, signed(GOOD))[0] == 200
    assert len(known(client)) == 1


# --- without a secret ----------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_without_a_secret_this_machine_is_trusted(connect: Connect, peer: str) -> None:
    client = connect(peer=peer)
    assert tell(client, GOOD)[0] == 200
    assert len(known(client)) == 1


@pytest.mark.parametrize("peer", [ELSEWHERE, "::ffff:10.0.0.7", "2001:db8::1", "unknown", ""])
def test_without_a_secret_no_other_machine_is(connect: Connect, peer: str) -> None:
    client = connect(peer=peer)
    for headers in ({}, signed(GOOD), {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=::1"}):
        status, answer = tell(client, GOOD, headers)
        assert (status, answer["code"]) == (401, "webhook_secret_required")
        assert "OPSCORE_WEBHOOK_SECRET" in answer["detail"]
    assert known(client) == []


def test_an_operator_can_open_it_and_is_warned_at_the_start(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = connect(peer=ELSEWHERE, webhook_insecure=True)
    assert tell(client, GOOD)[0] == 200
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.message == "webhook_is_open"


def test_with_a_secret_everybody_signs_whatever_else_is_set(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = connect(peer="127.0.0.1", webhook_insecure=True, webhook_secret=SECRET)
    status, answer = tell(client, GOOD)
    assert (status, answer["code"]) == (401, "missing_signature")
    assert known(client) == []
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]
    assert SECRET not in caplog.text
