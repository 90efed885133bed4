"""A task as it is kept: plain values, times in microseconds since the Unix epoch, JSON as text."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

__all__ = [
    "ENDED",
    "OPEN",
    "Route",
    "Task",
    "TaskState",
    "attempt_id",
    "replaced",
    "split_attempt_id",
]


class TaskState(StrEnum):
    """The life of a task."""

    WAITING = "waiting"
    READY = "ready"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


OPEN: Final = frozenset({TaskState.DISPATCHED, TaskState.RUNNING})
"""An attempt is out, and holds a slot."""

ENDED: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELLED}
)
"""The states that a task leaves only when somebody retries it by hand."""


class Route(StrEnum):
    """By which way an attempt reaches its agent."""

    AGENTKIT = "agentkit"
    DIRECT = "direct"


class Task(NamedTuple):
    """One task of a session: a node of its definition, or one item of a node with `forEach`.

    A node with `forEach` has a row of its own, without an item, that is never sent anywhere: it is
    `running` while its items are, and its result is the list of theirs.
    """

    task_id: str
    """Unique everywhere, and without a dot: `<taskId>.<attempt>` is what travels."""
    session_id: str
    node: str
    """The `taskId` in the definition."""
    item: int | None
    name: str
    state: TaskState
    priority: int
    pinned: str | None
    """The one agent that may have it; None for any that has the capability."""
    capability: str | None
    """Set unless `pinned` is; where both are, `pinned` decides."""
    parameters: str | None
    result: str | None
    error: str | None
    attempt: int
    """How many attempts were claimed; the number of the latest is its fence."""
    spent: int
    """How many of them count against `maximumAttempts`."""
    ready_at: int | None
    """When it may be claimed; set while it is `ready`."""
    start_within: int
    """`scheduleToStart`, in microseconds."""
    deadline_at: int | None
    """When somebody has to look at it next: its attempt's or its own time is up."""
    close_by: int | None
    """When `scheduleToClose` is up."""
    agent_id: str | None
    """Who has, or last had, an attempt."""
    instance_id: str | None
    """The instance whose slot the open attempt holds; empty for reports without one."""
    route: Route | None
    """By which route the open attempt was last sent."""
    rerouted: bool
    """The open attempt has been sent by its second route."""
    inferred: bool
    """Its end was taken from reports that did not name it."""
    progress: float | None
    progress_message: str | None
    created_at: int
    dispatched_at: int | None
    started_at: int | None
    ended_at: int | None
    stopped: bool = False
    """Its latest attempt ended otherwise than by its agent's word: it was cancelled, ran out of
    time or lost its instance. The agent may work on it still, and is told to stop."""


_PLACES: Final = {field: place for place, field in enumerate(Task._fields)}


def replaced(task: Task, values: Mapping[str, Any]) -> Task:
    """Return a task with these values: as `_replace` does, in half the time."""
    fields = list(task)
    for field, value in values.items():
        fields[_PLACES[field]] = value
    return Task._make(fields)


def attempt_id(task: Task) -> str:
    """Return what travels as `opscore_task_id`: the task and its fence."""
    return f"{task.task_id}.{task.attempt}"


def split_attempt_id(text: str) -> tuple[str, int | None]:
    """Return the task and the attempt that a text names; None where it names no attempt."""
    task_id, dot, number = text.rpartition(".")
    if dot and number.isascii() and number.isdigit() and len(number) < 10:
        return task_id, int(number)
    return text, None
