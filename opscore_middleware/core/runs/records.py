"""What passes between the engine and a store: runs, claims, words and promises kept once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from opscore_middleware.core.runs.tasks import Route, Task
from opscore_middleware.core.sessions import SessionState

__all__ = [
    "Advance",
    "Claim",
    "Creation",
    "Endpoint",
    "Repeated",
    "Run",
    "Step",
    "Stopped",
    "StoredWorkflow",
    "Word",
    "answering",
]


class StoredWorkflow(NamedTuple):
    """One version of a definition; `definition` is its JSON as text."""

    workflow_id: str
    version: int
    definition: str
    created_at: int


class Run(NamedTuple):
    """A session that runs a workflow, all of it that decisions need."""

    session_id: str
    agent_id: str
    """The agent that it was started for: preferred where it has the capability."""
    state: SessionState
    result: str | None
    error: str | None
    initial_payload: str | None
    traceparent: str | None
    """The trace that it was started in, as W3C spells it; None where nothing is traced."""
    workflow: StoredWorkflow
    created_at: int
    updated_at: int
    ended_at: int | None
    tasks: dict[str, Task]
    """By task id, in the order in which they were made."""


Step = Callable[[Run], Run]
"""A pure change of a run. A step that changes nothing returns the run that it was given; tasks that
it does not change stay the same objects, all keep their places, and new ones are added at the end.
It may raise an `OpsCoreError`: then nothing is changed, and its caller alone hears of it."""


class Advance(NamedTuple):
    """One step of the run that a session's id, or the id of one of its tasks, names."""

    step: Step
    session_id: str | None = None
    task_id: str | None = None


class Endpoint(NamedTuple):
    """Where the agent of a claim is reached: the instance's own endpoint, else the agent's."""

    agent_id: str
    instance_id: str
    """Empty for an agent that reports without instances."""
    url: str | None
    preferred: Route | None
    """The route that worked last; None where none is known to."""


class Claim(NamedTuple):
    """An attempt that was given out, and where it goes."""

    task: Task
    endpoint: Endpoint
    workflow_id: str
    traceparent: str | None
    """The trace that its session was started in."""


class Word(NamedTuple):
    """An event of an agent that has, or has just had, an attempt."""

    event_id: int
    agent_id: str
    instance_id: str
    """Empty for a report without one."""
    state: str
    details: str | None
    received_at: int
    sequence: int | None
    """None for a raw report: those of our middleware have one, and say more."""


class Stopped(NamedTuple):
    """An attempt that was cancelled, timed out or superseded while its agent may work on it."""

    agent_id: str
    instance_id: str
    attempt_id: str


class Creation(NamedTuple):
    """An `Idempotency-Key` and what it is for.

    `key` names the caller and the route as well; `fingerprint` is the body's. `answer` turns what
    the verb returns, all of it, into the answer that a repeat gets, as text.
    """

    key: str
    fingerprint: str
    until: int
    answer: Callable[[Any], str]


def answering(creation: Creation | None, view: Callable[[Any], Any]) -> Creation | None:
    """Return the creation whose `answer` is handed what `view` makes of a verb's result."""
    if creation is None:
        return None
    answer = creation.answer
    return creation._replace(answer=lambda result: answer(view(result)))


class Repeated(Exception):
    """This was created before, under the same key; `answer` is the one that was given then."""

    def __init__(self, answer: str) -> None:
        super().__init__(answer)
        self.answer = answer
