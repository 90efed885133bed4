"""What an agent says in plain values is what the models say, and by the same rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from opscore_middleware.core import names
from opscore_middleware.core.models import (
    AgentId,
    Batch,
    Heartbeat,
    HeartbeatAnswer,
    Name,
    Registration,
    StateReport,
)
from opscore_middleware.core.runs.views import TaskProgress
from opscore_middleware.errors import RemoteError
from opscore_middleware.protocol import calls, reporting
from opscore_middleware.protocol.call import Call

NOW = 1_795_358_656.25
AT = datetime.fromtimestamp(NOW, UTC)


def same(plain: Call[Any], modelled: Call[Any]) -> bool:
    return (plain.method, plain.path, plain.headers) == (
        modelled.method,
        modelled.path,
        modelled.headers,
    )


@pytest.mark.parametrize("counts", [{}, {"coalesced": 3, "errors": 2}])
def test_reports_are_sent_as_the_models_send_them(counts: dict[str, int]) -> None:
    details = {"why": "ü", "at": AT, "share": float("nan")} if counts else {"why": "ü"}
    told = {"why": "ü", "at": "2026-11-22T14:44:16.250000Z", "share": None} if counts else details
    numbers = {"coalesced": 0, "errors": 0, **counts}
    plain = reporting.state_report(
        "ä ..",
        at=NOW,
        state="idle",
        details=details,
        instance_id="i",
        started_at=reporting.moment(NOW),
        sequence=7,
        **numbers,
    )
    meant = StateReport(
        agent_id="ä ..",
        timestamp=AT,
        state="idle",
        details=told,
        instance_id="i",
        started_at=AT,
        sequence=7,
        **counts,
    )
    batch, single = reporting.report_states("ä ..", [plain] * 2), reporting.report_state(plain)
    assert Batch.model_validate_json(batch.body or b"") == Batch(reports=[meant] * 2)
    assert same(batch, calls.report_states("ä ..", [meant] * 2))
    assert StateReport.model_validate_json(single.body or b"") == meant
    assert same(single, calls.report_state(meant))


def test_heartbeats_registrations_and_progress_go_where_the_models_go() -> None:
    beat = Heartbeat(instance_id="i", state="idle", sequence=3, interval_seconds=10)
    told = beat.model_dump(by_alias=True)
    plain = reporting.heartbeat("a/b", told)
    assert Heartbeat.model_validate_json(plain.body or b"") == beat
    assert same(plain, calls.heartbeat("a/b", beat))
    registration = Registration(agent_name="n", capabilities=["c"])
    told = registration.model_dump(by_alias=True)
    assert reporting.register_agent(told).path == calls.register_agent(registration).path
    progress = TaskProgress(progress=0.5, message="half")
    wanted = calls.progress_task("t.1", progress)
    told_of = reporting.progress_task("t.1", 0.5, "half")
    assert same(told_of, wanted)
    assert told_of.body == wanted.body


def test_an_answer_to_a_heartbeat_is_read_as_the_model_reads_it() -> None:
    answer = HeartbeatAnswer(
        state="idle", last_sequence=4, drain=True, cancel=["t.1"], interval_seconds=5
    )
    body = answer.model_dump_json(by_alias=True).encode()
    said = reporting.heartbeat("a", {}).result(200, body)
    assert said == (answer.last_sequence, answer.interval_seconds, answer.drain, answer.cancel)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"[" * 100_000,
        b"{}",
        b'{"lastSequence": "4", "intervalSeconds": 5}',
        b'{"lastSequence": 4, "intervalSeconds": null}',
        b'{"lastSequence": 4, "intervalSeconds": 5, "cancel": [1]}',
    ],
)
def test_an_answer_of_somebody_elses_is_none(body: bytes) -> None:
    for call in (reporting.heartbeat("a", {}), reporting.register_agent({})):
        with pytest.raises(RemoteError, match="something that is not Ops-Core's"):
            call.result(200, body)


def takes(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", ".", "..", "...", "a\n", "a/b", "\x85", "n" * 200, "n" * 201, "\ud800"]),
    st.integers(),
)


@given(texts)
def test_ids_and_names_are_taken_that_a_registration_takes(value: object) -> None:
    assert names.is_agent_id(value) == takes(AgentId, value)
    assert names.is_name(value) == takes(Name, value)
    assert names.is_version(value) == registers(version=value)
    assert names.are_capabilities([value]) == registers(capabilities=[value])


@given(
    st.one_of(
        texts,
        st.text(max_size=6).map("http://{}".format),
        st.sampled_from(["https://a\n", "http://a b", "http://\u3000", "http://" + "a" * 1994]),
    )
)
def test_endpoints_are_taken_that_a_registration_takes(value: object) -> None:
    assert names.is_endpoint(value) == registers(contact_endpoint=value)


def registers(**field: object) -> bool:
    try:
        Registration.model_validate({"agent_name": "any", **field}, strict=True)
    except ValidationError:
        return False
    return True
