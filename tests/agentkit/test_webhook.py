"""Reading a webhook: first proven, then parsed, then fit to be registered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.agentkit import EventKind, WebhookEvent, read_webhook
from opscore_middleware.core.models import Registration
from opscore_middleware.errors import (
    InvalidEventType,
    InvalidSignature,
    MissingSignature,
    StaleSignature,
    ValidationFailed,
    WebhookSecretRequired,
)
from opscore_middleware.protocol.signing import SIGNATURE_HEADER, TOLERANCE
from tests.agentkit.support import NOW, SECRET, details

AS_AGENTKIT_SENDS_IT = (
    b'{"event_type":"REGISTER","agent_details":{"agentId":"a-1","agentName":"agent-none",'
    b'"capabilities":["echo"],"version":"1.0","contactEndpoint":"http://127.0.0.1:44551/task",'
    b'"metadata":null,"registration_time":"2026-11-22T14:44:16.377149Z"}}'
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)


def unsigned(body: bytes) -> WebhookEvent:
    return read_webhook(body, {}, secrets=(), now=NOW, insecure=True)


def event(kind: str = "REGISTER", *, top: dict[str, Any] | None = None, **changes: Any) -> bytes:
    envelope = {"event_type": kind, "agent_details": details(**changes), **(top or {})}
    return json.dumps(envelope).encode()


def test_a_registration_as_agentkit_sends_it_is_read(signed: Callable[..., dict[str, str]]) -> None:
    headers = signed(AS_AGENTKIT_SENDS_IT)
    read = read_webhook(AS_AGENTKIT_SENDS_IT, headers, secrets=[SECRET], now=NOW)
    assert read.kind is EventKind.REGISTER
    assert read.signed
    assert read.replay_key == headers[SIGNATURE_HEADER]
    assert read.replay_until == NOW + TOLERANCE
    assert read.agent.registration_time is not None
    assert read.agent.registration_time.isoformat() == "2026-11-22T14:44:16.377149+00:00"
    assert read.agent.registration() == Registration(
        agent_id="a-1",
        agent_name="agent-none",
        version="1.0",
        capabilities=["echo"],
        contact_endpoint="http://127.0.0.1:44551/task",
    )


def test_the_same_webhook_twice_has_the_same_replay_key(
    signed: Callable[..., dict[str, str]],
) -> None:
    def key(body: bytes) -> str | None:
        return read_webhook(body, signed(body), secrets=[SECRET], now=NOW).replay_key

    assert key(event()) == key(event()) is not None
    assert key(event()) != key(event(version="1.1"))


def test_a_forged_body_is_refused_before_it_is_parsed(
    signed: Callable[..., dict[str, str]],
) -> None:
    with pytest.raises(InvalidSignature):
        read_webhook(b"not json", signed(b"{}"), secrets=[SECRET], now=NOW)


def test_an_old_webhook_is_refused(signed: Callable[..., dict[str, str]]) -> None:
    with pytest.raises(StaleSignature):
        read_webhook(event(), signed(event()), secrets=[SECRET], now=NOW + 2 * TOLERANCE)


def test_without_a_secret_nothing_is_taken_unless_the_operator_says_so() -> None:
    with pytest.raises(WebhookSecretRequired, match="OPSCORE_WEBHOOK_SECRET"):
        read_webhook(event(), {}, secrets=[], now=NOW)
    read = unsigned(event())
    assert not read.signed
    assert read.replay_key is None
    assert read.replay_until is None


def test_a_secret_must_be_used_once_there_is_one() -> None:
    with pytest.raises(MissingSignature):
        read_webhook(event(), {}, secrets=[SECRET], now=NOW, insecure=True)


@pytest.mark.parametrize("kind", ["register", "Register", "REGISTER", "deregister", "DEREGISTER"])
def test_the_kind_may_be_in_any_case(kind: str) -> None:
    assert unsigned(event(kind)).kind == kind.upper()


@pytest.mark.parametrize("kind", ["", "UPDATE", "RE GISTER", "registered", "\u017fREGISTER"])
def test_another_kind_is_refused_with_the_known_ones(kind: str) -> None:
    with pytest.raises(InvalidEventType, match="REGISTER or DEREGISTER") as refused:
        unsigned(event(kind))
    assert refused.value.code == "invalid_event_type"
    assert refused.value.status == 400
    assert refused.value.context["allowed"] == ["REGISTER", "DEREGISTER"]


@pytest.mark.parametrize("metadata", [None, {}, {"description": "d", "config": None, "more": [1]}])
def test_metadata_may_be_null_empty_or_full(metadata: dict[str, Any] | None) -> None:
    assert unsigned(event(metadata=metadata)).agent.registration().metadata == metadata


def test_metadata_and_time_may_be_absent() -> None:
    given = details()
    del given["metadata"], given["registration_time"]
    body = json.dumps({"event_type": "REGISTER", "agent_details": given}).encode()
    agent = unsigned(body).agent
    assert agent.metadata is None
    assert agent.registration_time is None


def test_the_time_may_be_spelled_as_in_agentkits_guide() -> None:
    given = details()
    given["registrationTime"] = given.pop("registration_time")
    body = json.dumps({"event_type": "REGISTER", "agent_details": given}).encode()
    agent = unsigned(body).agent
    assert agent.registration_time is not None
    assert agent.registration_time.year == 2026


@pytest.mark.parametrize("time", ["2026-11-22T14:44:16", "0001-01-01T00:00:00+14:00", "soon", {}])
def test_a_time_that_cannot_be_placed_is_a_fault(time: Any) -> None:
    with pytest.raises(ValidationFailed) as refused:
        unsigned(event(registration_time=time))
    (fault,) = refused.value.errors
    assert fault["loc"] == ["body", "agent_details", "registration_time"]


def test_unknown_fields_are_kept_at_both_levels() -> None:
    read = unsigned(event(top={"delivery": 7}, region="eu"))
    assert read.extra == {"delivery": 7}
    assert read.agent.model_extra == {"region": "eu"}


def test_a_deregistration_needs_no_more_than_the_id() -> None:
    read = unsigned(b'{"event_type":"DEREGISTER","agent_details":{"agentId":"a-1"}}')
    assert read.kind is EventKind.DEREGISTER
    assert read.agent.agent_id == "a-1"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", [["body"]]),
        (b"not json", [["body"]]),
        (b"\xff\xfe", [["body"]]),
        (b"[" * 5000, [["body"]]),
        (b"[]", [["body"]]),
        (b"{}", [["body", "event_type"], ["body", "agent_details"]]),
        (
            b'{"event_type":1,"agent_details":[]}',
            [["body", "event_type"], ["body", "agent_details"]],
        ),
        (
            event(agentId=None, capabilities="echo", metadata=[], version=1),
            [
                ["body", "agent_details", "agentId"],
                ["body", "agent_details", "capabilities"],
                ["body", "agent_details", "version"],
                ["body", "agent_details", "metadata"],
            ],
        ),
        (
            event(agentId="a/b", agentName=" \n"),
            [["body", "agent_details", "agentId"], ["body", "agent_details", "agentName"]],
        ),
        (event(agentId=""), [["body", "agent_details", "agentId"]]),
        (event(agentId="x" * 201), [["body", "agent_details", "agentId"]]),
    ],
)
def test_a_malformed_body_is_refused_with_all_its_faults(
    body: bytes, where: list[list[str]]
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        unsigned(body)
    assert refused.value.status == 422
    assert [fault["loc"] for fault in refused.value.errors] == where
    assert all(fault["msg"] for fault in refused.value.errors)


def test_a_fault_does_not_repeat_the_value() -> None:
    with pytest.raises(ValidationFailed) as refused:
        unsigned(event(metadata="hunter2", contactEndpoint=["hunter2"]))
    assert "hunter2" not in f"{refused.value} {refused.value.errors}"


@given(body=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    with pytest.raises((ValidationFailed, InvalidEventType)):
        unsigned(body)


@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "agentName": st.text(max_size=300),
            "agentId": st.text(max_size=250),
            "version": st.none() | st.text(max_size=150),
            "capabilities": st.none() | st.lists(st.text(max_size=250), max_size=12),
            "contactEndpoint": st.none() | st.text(max_size=40),
            "metadata": st.none() | st.dictionaries(st.text(max_size=8), json_values, max_size=3),
        },
    )
)
def test_odd_agents_are_registered_or_refused_for_their_id_or_name(changes: dict[str, Any]) -> None:
    try:
        registration = unsigned(event(**changes)).agent.registration()
    except ValidationFailed as refused:
        faulty = {fault["loc"][-1] for fault in refused.errors}
        assert faulty <= {"agentId", "agentName"}
    else:
        assert registration.agent_id == changes.get("agentId", details()["agentId"])


def test_what_only_describes_an_agent_is_made_to_fit() -> None:
    odd = event(
        agentName="long\tname " + "n" * 300,
        version="v" * 150,
        capabilities=["echo", "", "echo", "a\x00b", "c" * 201, *(f"c{n}" for n in range(300))],
        contactEndpoint="ftp://agent/",
    )
    fitted = unsigned(odd).agent.registration()
    assert fitted.agent_name.startswith("long name nnn")
    assert fitted.agent_name.endswith("n…")
    assert len(fitted.agent_name) == 200
    assert fitted.version == "v" * 99 + "…"
    assert fitted.capabilities[:2] == ["echo", "c0"]
    assert len(fitted.capabilities) == 200
    assert fitted.contact_endpoint is None
