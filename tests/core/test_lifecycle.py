"""The rules for a report, before it is written."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from opscore_middleware.core.clock import SECOND, from_micros
from opscore_middleware.core.lifecycle import (
    CLOCK_TOLERANCE,
    agent_from_record,
    check_extra_states,
    prepare_report,
    state_from_record,
)
from opscore_middleware.core.models import StateReport
from opscore_middleware.core.records import AgentRecord, InstanceRecord, StoredReport
from opscore_middleware.errors import AgentIdMismatch, ConfigurationError, InvalidState

NOW = 1_800_000_000 * SECOND


def prepared(offset: int = 0, extra: tuple[str, ...] = (), **fields: Any) -> StoredReport:
    values = {"agent_id": "a", "state": "idle", "timestamp": from_micros(NOW + offset), **fields}
    return prepare_report(
        StateReport(**values), agent_id="a", now=NOW, extra_states=frozenset(extra)
    )


@pytest.mark.parametrize("offset", [0, -CLOCK_TOLERANCE, CLOCK_TOLERANCE, 1, -1])
def test_a_time_within_a_minute_of_ours_orders_the_report(offset: int) -> None:
    report = prepared(offset)
    assert report.effective_at == report.timestamp == NOW + offset


@pytest.mark.parametrize("offset", [-CLOCK_TOLERANCE - 1, CLOCK_TOLERANCE + 1, 10**15])
def test_a_time_further_off_is_kept_but_counts_as_the_arrival(offset: int) -> None:
    report = prepared(offset)
    assert report.timestamp == NOW + offset
    assert report.effective_at == report.received_at == NOW


def test_a_report_about_another_agent_is_refused_with_both_names() -> None:
    with pytest.raises(AgentIdMismatch) as raised:
        prepared(agent_id="b")
    assert raised.value.status == 400
    assert raised.value.context == {"agent_id": "a", "body_agent_id": "b"}


@pytest.mark.parametrize("state", ["UNKNOWN", "unknown", "busy", " idle"])
def test_a_state_that_nobody_may_report_is_refused_with_the_allowed_ones(state: str) -> None:
    with pytest.raises(InvalidState) as raised:
        prepared(state=state, extra=("paused",))
    assert raised.value.context["state"] == state
    assert raised.value.context["allowed"] == [
        *("initializing", "idle", "active", "error", "draining", "finished"),
        "paused",
    ]


@pytest.mark.parametrize("state", ["IDLE", "Idle", "idle"])
def test_states_are_matched_without_regard_to_case(state: str) -> None:
    assert prepared(state=state).state == "idle"


def test_an_operator_s_own_state_is_taken() -> None:
    assert prepared(state="Paused", extra=("paused",)).state == "paused"


def test_extra_states_are_plain_words_of_their_own() -> None:
    assert check_extra_states(["Paused", "rate-limited"]) == {"paused", "rate-limited"}
    for name in ("", "two words", "x" * 65, "1st", "Idle", "unknown"):
        with pytest.raises(ConfigurationError) as raised:
            check_extra_states([name])
        assert raised.value.context == {"value": name.lower()}


def test_a_sequence_without_an_instance_orders_nothing() -> None:
    assert prepared(sequence=3).sequence is None
    assert prepared(sequence=3, instance_id="i").sequence == 3


def test_details_become_json_whatever_numbers_they_hold() -> None:
    assert prepared(details={"a": math.nan, "b": "é\x00"}).details == '{"a":null,"b":"é\\u0000"}'
    assert prepared(details=None).details is None
    assert prepared(details={}).details == "{}"


def test_everything_else_is_kept_as_it_came() -> None:
    report = prepared(
        instance_id="i", coalesced=4, errors=2, started_at=from_micros(NOW) - timedelta(hours=1)
    )
    assert (report.coalesced, report.errors) == (4, 2)
    assert report.started_at == NOW - 3600 * SECOND


# --- from a record to what travels ---------------------------------------------------------------


def instance(name: str | None, state: str, at: int, **fields: Any) -> InstanceRecord:
    values: dict[str, Any] = {
        "details": None,
        "sequence": None,
        "started_at": None,
        "contact_endpoint": None,
        **fields,
    }
    return InstanceRecord(
        instance_id=name, state=state, timestamp=at, last_seen_at=at + SECOND, **values
    )


def agent(*instances: InstanceRecord) -> AgentRecord:
    return AgentRecord("a", "name", "1", ("echo",), None, '{"k":1}', NOW, None, instances)


def test_an_agent_s_details_and_time_are_those_of_the_instance_that_decides() -> None:
    record = agent(
        instance("w1", "idle", NOW + 5 * SECOND),
        instance("w2", "active", NOW + 2 * SECOND, details='{"opscore_task_id":"t"}', sequence=7),
    )
    shown = agent_from_record(record, None)
    assert (shown.state, shown.details) == ("active", {"opscore_task_id": "t"})
    assert shown.timestamp == from_micros(NOW + 2 * SECOND)
    assert [i.sequence for i in shown.instances] == [None, 7]
    assert shown.metadata == {"k": 1}
    assert state_from_record(record, None).model_dump() == {
        "agent_id": "a",
        "state": "active",
        "details": {"opscore_task_id": "t"},
        "timestamp": from_micros(NOW + 2 * SECOND),
    }


def test_an_agent_that_never_reported_is_unknown_since_its_registration() -> None:
    shown = state_from_record(agent(), None)
    assert (shown.state, shown.details, shown.timestamp) == ("UNKNOWN", None, from_micros(NOW))
