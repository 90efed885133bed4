"""Definitions, tasks and sessions' progress as they travel."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.models import Name, Query, Utc, Wire
from opscore_middleware.core.runs.records import Run, StoredWorkflow
from opscore_middleware.core.runs.tasks import Route, Task, TaskState
from opscore_middleware.core.sessions import Session
from opscore_middleware.core.written import Written

__all__ = [
    "Replayed",
    "SessionView",
    "TaskProgress",
    "TaskQuery",
    "TaskResult",
    "TaskView",
    "Why",
    "WorkflowQuery",
    "WorkflowStart",
    "WorkflowStarted",
    "WorkflowView",
    "as_task",
    "as_workflow",
    "counted",
    "task_of",
]


def _storable(text: str) -> str:
    """Return a text with something to see for each NUL, which PostgreSQL keeps in no text."""
    return text.replace("\0", "\ufffd")


class WorkflowView(Wire):
    """One version of a definition."""

    workflow_id: str
    version: int
    name: str
    created_at: Utc
    definition: dict[str, Any]


class WorkflowQuery(Query):
    """Which definitions to list: the latest version of each, by id."""

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None


class WorkflowStart(Wire):
    """What a workflow is started with: a definition's id, or a definition, one of the two.

    `initial_payload` is for the tasks that nothing comes before; `run_at` puts the start off.
    """

    workflow_definition_id: Name | None = None
    workflow_definition: dict[str, Any] | None = None
    initial_payload: dict[str, Any] | None = None
    run_at: Utc | None = None


class WorkflowStarted(Wire):
    """The answer to the start of a workflow."""

    session_id: str
    workflow_id: str
    message: str = "Workflow started"


class SessionView(Session):
    """A session, and where it runs a workflow how far it is: `total` tasks, and those by state."""

    progress: dict[str, int] | None = None

    @classmethod
    def of(cls, session: Session, counts: Mapping[TaskState, int] | None) -> SessionView:
        """Return a session with its tasks, which were counted by state."""
        progress = None
        if counts is not None:
            by_state = {state.value: counts.get(state, 0) for state in TaskState}
            progress = {"total": sum(by_state.values()), **by_state}
        return cls(**dict(session), progress=progress)


class TaskView(Wire):
    """A task: `node` is its id in the definition, `item` its place in a `forEach`.

    `agent_id` is the agent that it is pinned to, `assigned_agent_id` the one that has or last had
    it. `attempt` counts all attempts, `attempts` those that count against `maximumAttempts`.
    """

    task_id: str
    session_id: str
    workflow_id: str | None = None
    node: str
    item: int | None
    name: str
    state: TaskState
    priority: int
    agent_id: str | None
    agent_capability: str | None
    assigned_agent_id: str | None
    instance_id: str | None
    attempt: int
    attempts: int
    parameters: Any = None
    result: Any = None
    error: Any = None
    progress: float | None
    progress_message: str | None
    ready_at: Utc | None
    created_at: Utc
    dispatched_at: Utc | None
    started_at: Utc | None
    ended_at: Utc | None
    route: Route | None
    inferred: bool


class TaskQuery(Query):
    """Which tasks to list, newest first; `dead` are those that failed for good."""

    session_id: str | None = None
    state: TaskState | None = None
    agent_id: str | None = None
    capability: str | None = None
    dead: bool = False
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.dead and self.state not in (None, TaskState.FAILED):
            raise ValueError(f"dead tasks are those that have failed, and none is {self.state}")
        return self


class TaskResult(Written):
    """How an attempt ended: with a result, or with an error that says why it failed."""

    result: Any = None
    error: dict[str, Any] | None = None


class TaskProgress(Written):
    """How far an attempt is, from 0 to 1, and in words."""

    progress: float = Field(ge=0, le=1, allow_inf_nan=False)
    message: Annotated[str, AfterValidator(_storable)] | None = Field(default=None, max_length=1000)


class Why(Wire):
    """Why a task is not running, in one sentence."""

    task_id: str
    state: TaskState
    why: str


class Replayed(Wire):
    """How many failed tasks were put back."""

    replayed: int


def as_workflow(stored: StoredWorkflow) -> WorkflowView:
    """Return a definition as it travels."""
    definition = json.loads(stored.definition)
    return WorkflowView(
        workflow_id=stored.workflow_id,
        version=stored.version,
        name=definition["name"],
        created_at=from_micros(stored.created_at),
        definition=definition,
    )


def as_task(task: Task, *, workflow_id: str | None = None) -> TaskView:
    """Return a task as it travels."""
    return TaskView(
        task_id=task.task_id,
        session_id=task.session_id,
        workflow_id=workflow_id,
        node=task.node,
        item=task.item,
        name=task.name,
        state=task.state,
        priority=task.priority,
        agent_id=task.pinned,
        agent_capability=task.capability,
        assigned_agent_id=task.agent_id,
        instance_id=task.instance_id or None,
        attempt=task.attempt,
        attempts=task.spent,
        parameters=_value(task.parameters),
        result=_value(task.result),
        error=_value(task.error),
        progress=task.progress,
        progress_message=task.progress_message,
        ready_at=_moment(task.ready_at),
        created_at=from_micros(task.created_at),
        dispatched_at=_moment(task.dispatched_at),
        started_at=_moment(task.started_at),
        ended_at=_moment(task.ended_at),
        route=task.route,
        inferred=task.inferred,
    )


def task_of(run: Run, task_id: str) -> TaskView:
    """Return a task of a run as it travels."""
    return as_task(run.tasks[task_id], workflow_id=run.workflow.workflow_id)


def counted(run: Run) -> dict[TaskState, int]:
    """Count a run's tasks by state; one with `forEach` counts as its items, once it has any."""
    spread = {task.node for task in run.tasks.values() if task.item is not None}
    found = Counter(
        task.state
        for task in run.tasks.values()
        if task.item is not None or task.node not in spread
    )
    return {state: found[state] for state in TaskState}


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _moment(micros: int | None) -> Utc | None:
    return None if micros is None else from_micros(micros)
