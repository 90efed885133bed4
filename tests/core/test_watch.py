"""What those who watch are told, and what they may ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.watch import (
    AgentEvent,
    EventRecord,
    StateQuery,
    Wanted,
    WatchQuery,
    encode,
)

NOW = 1_790_000_000 * SECOND


def event(**fields: Any) -> EventRecord:
    """An event of the summariser, which can write and read."""
    values: dict[str, Any] = {
        "event_id": 7,
        "agent_id": "a",
        "agent_name": "summariser",
        "capabilities": ("write", "read"),
        "state": "active",
        "details": None,
        "timestamp": NOW,
        "received_at": NOW + 1,
        "instance_id": "i",
        "sequence": 3,
        "coalesced": 0,
        "errors": 0,
        **fields,
    }
    return EventRecord(**values)


texts = st.text(max_size=20)


@given(
    st.builds(
        event,
        event_id=st.integers(1, 2**63 - 1),
        agent_id=texts,
        agent_name=texts,
        details=st.none() | st.dictionaries(texts, texts | st.integers()).map(json.dumps),
        timestamp=st.integers(0, 4_000_000_000 * SECOND),
        received_at=st.integers(0, 4_000_000_000 * SECOND),
        instance_id=st.none() | texts,
        sequence=st.none() | st.integers(1, 2**53),
    )
)
def test_an_event_travels_as_its_model_says_on_one_line(told: EventRecord) -> None:
    encoded = encode(told)
    assert b"\n" not in encoded
    assert b"\r" not in encoded
    as_model = AgentEvent.model_validate_json(encoded)
    assert json.loads(as_model.model_dump_json(by_alias=True)) == json.loads(encoded)
    assert as_model.details == (None if told.details is None else json.loads(told.details))
    assert (as_model.event_id, as_model.agent_name) == (told.event_id, told.agent_name)


@pytest.mark.parametrize(
    ("query", "is_taken"),
    [
        ({}, True),
        ({"agent_id": "a"}, True),
        ({"agent_id": "b"}, False),
        ({"name": "summariser"}, True),
        ({"name": "summ"}, False),
        ({"state": "ACTIVE"}, True),
        ({"state": "idle"}, False),
        ({"capability": "read"}, True),
        ({"capability": "rea"}, False),
        ({"agent_id": "a", "state": "active", "capability": "write"}, True),
        ({"agent_id": "a", "state": "idle", "capability": "write"}, False),
    ],
)
def test_an_event_is_taken_when_all_that_is_asked_for_holds(
    query: dict[str, str], is_taken: bool
) -> None:
    assert Wanted.of(WatchQuery(**query)).takes(event()) is is_taken


@pytest.mark.parametrize(
    ("written", "seconds"), [("30s", 30), ("500ms", 0.5), ("1m", 60), ("0", 0), ("0s", 0), (7, 7)]
)
def test_a_wait_is_written_with_a_unit_or_in_seconds(written: object, seconds: float) -> None:
    assert StateQuery.model_validate({"wait": written}).wait == seconds


@pytest.mark.parametrize("written", ["61s", "2m", "-1", "soon", "nan", "inf", ""])
def test_a_wait_that_is_too_long_or_none_is_refused(written: str) -> None:
    with pytest.raises(ValidationError):
        StateQuery.model_validate({"wait": written})


@pytest.mark.parametrize("after", [-1, 2**63, "x"])
def test_an_event_id_that_cannot_be_is_refused(after: object) -> None:
    with pytest.raises(ValidationError):
        WatchQuery.model_validate({"after": after})
