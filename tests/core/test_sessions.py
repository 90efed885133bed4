"""The life of a session against a model of a few lines, whatever is told in whatever order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pydantic import ValidationError

from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.sessions import (
    TERMINAL,
    Session,
    SessionChange,
    SessionState,
    changed,
)
from opscore_middleware.errors import Conflict, SessionEnded

START = from_micros(1_790_000_000_000_000)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "state": st.sampled_from(SessionState) | st.none(),
    "result": st.sampled_from([None, 1, {"n": 1}]),
    "error": st.sampled_from([None, {"type": "E"}]),
    "metadata": st.sampled_from([None, {}, {"k": 1}]),
}
CHANGES = st.fixed_dictionaries({}, optional=VALUES).filter(bool)


class Life(RuleBasedStateMachine):
    """What is shown is what was last told, until an end; then nothing changes any more."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.session = Session(
            session_id="s",
            agent_id="a",
            state=SessionState.STARTED,
            created_at=START,
            updated_at=START,
        )
        self.told: dict[str, Any] = {
            "state": SessionState.STARTED,
            "result": None,
            "error": None,
            "metadata": None,
        }
        self.changed_at = START

    @property
    def over(self) -> bool:
        return self.told["state"] in TERMINAL

    def tell(self, fields: dict[str, Any]) -> bool:
        """Tell of a change; return whether there was anything new in it."""
        self.now += timedelta(seconds=1)
        new = {n: v for n, v in fields.items() if n != "state" or v is not None}
        if all(self.told[n] == v for n, v in new.items()):
            assert changed(self.session, SessionChange(**fields), self.now) is self.session
            return False
        if self.over:
            with pytest.raises(SessionEnded) as raised:
                changed(self.session, SessionChange(**fields), self.now)
            assert raised.value.context == {"session_id": "s", "state": self.told["state"]}
        else:
            self.session = changed(self.session, SessionChange(**fields), self.now)
            self.told |= new
            self.changed_at = self.now
        return True

    @rule(fields=CHANGES)
    def say_anything(self, fields: dict[str, Any]) -> None:
        self.tell(fields)

    @rule(fields=CHANGES)
    def say_it_twice(self, fields: dict[str, Any]) -> None:
        self.tell(fields)
        if not self.over:
            assert not self.tell(fields)

    @precondition(lambda self: self.over)
    @rule()
    def say_the_end_again(self) -> None:
        assert not self.tell({"state": self.told["state"]})

    @invariant()
    def shows_what_was_told(self) -> None:
        shown = self.session.model_dump(include=set(self.told))
        assert shown == self.told
        assert self.session.updated_at == self.changed_at
        assert self.session.ended_at == (self.changed_at if self.over else None)
        assert (self.session.session_id, self.session.created_at) == ("s", START)


Life.TestCase.settings = settings(max_examples=80, stateful_step_count=20, deadline=None)
TestLife = Life.TestCase


def test_a_change_that_says_nothing_is_none() -> None:
    with pytest.raises(ValidationError, match="name at least one"):
        SessionChange()


def test_the_session_of_a_workflow_is_its_tasks_to_change() -> None:
    session = Session(
        session_id="s",
        agent_id="a",
        workflow_id="w",
        workflow_version=1,
        state=SessionState.RUNNING,
        created_at=START,
        updated_at=START,
    )
    with pytest.raises(Conflict, match="/cancel, /pause, /resume or /retry"):
        changed(session, SessionChange(state=SessionState.COMPLETED), START)
    assert changed(session, SessionChange(metadata={"k": 1}), START).metadata == {"k": 1}
    assert changed(session, SessionChange(state=SessionState.RUNNING), START) is session


@pytest.mark.parametrize(
    ("state", "version", "hint"),
    [
        (SessionState.FAILED, 1, "POST /v1/opscore/sessions/s/retry has it go on."),
        (SessionState.CANCELLED, 1, "POST /v1/opscore/sessions/s/retry has it go on."),
        (SessionState.COMPLETED, 1, "Start a new session."),
        (SessionState.FAILED, None, "Start a new session."),
    ],
)
def test_who_would_change_what_is_over_is_told_what_can_be_done(
    state: SessionState, version: int | None, hint: str
) -> None:
    session = Session(
        session_id="s",
        agent_id="a",
        workflow_version=version,
        state=state,
        created_at=START,
        updated_at=START,
    )
    with pytest.raises(SessionEnded) as raised:
        changed(session, SessionChange(metadata={"k": 1}), START)
    assert raised.value.message.endswith(hint)
