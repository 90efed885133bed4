"""What a workflow is made of, as it travels and as it is kept: frozen, camelCase on the wire.

These models know the shape of each field alone. What must hold between fields, and whether an
expression can be read, is `validation.parse`'s to say, which every definition goes through once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.durations import parse_duration
from opscore_middleware.core.models import AgentId, Name, Utc, Wire

__all__ = [
    "MAX_EXPRESSION",
    "MAX_TASKS",
    "Duration",
    "Missed",
    "OnFailure",
    "Retry",
    "TaskDefinition",
    "TaskName",
    "Timeouts",
    "WorkflowDefinition",
    "WorkflowId",
    "spelled",
]

MAX_TASKS: Final = 1000
"""How many tasks a definition may have; `forEach` makes many of one."""

MAX_EXPRESSION: Final = 4000
"""How many characters an expression may have."""

WorkflowId = AgentId  # one segment of a path, too
TaskName = AgentId
_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
_MILLISECOND: Final = SECOND // 1000


def spelled(micros: int) -> str:
    """Return a span in the largest unit that says it without a fraction."""
    millis, rest = divmod(micros, _MILLISECOND)
    if rest:
        return f"{micros / _MILLISECOND:.3f}".rstrip("0") + "ms"
    unit, size = next((unit, size) for unit, size in _UNITS if millis % size == 0)
    return f"{millis // size}{unit}"


def _micros(value: Any) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int | float):
        raise ValueError(f"{value!r} has no unit; write for example 30s, 15m or 2h")
    return value


Duration = Annotated[
    int,
    BeforeValidator(_micros),
    PlainSerializer(spelled, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*\d+(\.\d+)?\s*(ms|[smhd])?\s*$",
            "examples": ["500ms", "30s", "15m", "2h", "7d"],
        }
    ),
]
"""A span, kept in microseconds and written with a unit: `500ms`, `30s`, `15m`, `2h`, `7d`."""

Expression = Annotated[str, Field(min_length=1, max_length=MAX_EXPRESSION)]
"""A JMESPath over `{initialPayload, tasks}`."""


class Missed(StrEnum):
    """What becomes of the runs of a schedule that fell into an outage of Ops-Core."""

    SKIP = "skip"
    CATCH_UP = "catchUp"


class OnFailure(StrEnum):
    """What the failure of a task means for its session: its end, or nothing."""

    FAIL = "fail"
    CONTINUE = "continue"


class _Part(Wire):
    """A part of a definition; what it does not know is a mistake, not a thing to pass over."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Retry(_Part):
    """How often a task is tried, and how long between."""

    maximum_attempts: int = Field(default=3, ge=1, le=1000, strict=True)
    """How often it is tried in all, the first time included."""
    initial_interval: Duration = SECOND
    """How long before the second attempt, at most."""
    backoff_coefficient: float = Field(default=2.0, ge=1, le=100, allow_inf_nan=False, strict=True)
    """By how much that grows with each attempt."""
    maximum_interval: Duration = 60 * SECOND
    """What it does not grow beyond."""
    jitter: bool = Field(default=True, strict=True)
    """Whether it is any time up to that, by chance, so that many do not come back together."""
    non_retryable: tuple[Name, ...] = Field(default=(), max_length=100)
    """The kinds of error that are final, by the `type` that the agent gives them."""


class Timeouts(_Part):
    """How long a task may take."""

    schedule_to_start: Duration = 30 * SECOND
    """From sending an attempt until its agent begins it."""
    start_to_close: Duration = 600 * SECOND
    """From there to the attempt's end."""
    schedule_to_close: Duration = 3600 * SECOND
    """From the task's turn to its end, all attempts together."""


class TaskDefinition(_Part):
    """One task: what is to be done, by whom, after which others."""

    task_id: TaskName
    """What the other tasks know it by."""
    name: Name
    """What the agent is asked to do; it travels as `task_name`."""
    agent_capability: Name | None = None
    """Any agent that can do this may have it."""
    agent_id: AgentId | None = None
    """This agent alone may have it."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """What the agent is given. Texts may have templates: `{{ tasks.step_1.result.summary }}`."""
    next_task_id: TaskName | None = None
    """The task that comes after this one."""
    depends_on: tuple[TaskName, ...] = Field(default=(), max_length=MAX_TASKS)
    """The tasks that come before this one."""
    priority: int = Field(default=0, ge=-1000, le=1000, strict=True)
    """A higher one goes first."""
    when: Expression | None = None
    """A JMESPath expression; where it is false, null or empty the task is skipped."""
    for_each: Expression | None = None
    """A JMESPath expression that gives a list; the task is done once for each of its items."""
    retry: Retry = Field(default_factory=Retry)
    """How often it is tried."""
    timeouts: Timeouts = Field(default_factory=Timeouts)
    """How long it may take."""
    fallback_task_id: TaskName | None = None
    """The task that is done in its place when it has failed for good."""
    on_failure: OnFailure = OnFailure.FAIL
    """What its failure means for the session: its end, or nothing."""
    delay: Duration | None = None
    """How long it waits once it is its turn."""
    run_at: Utc | None = None
    """When it may begin at the earliest; with `delay`, the later of both counts."""


class WorkflowDefinition(_Part):
    """A workflow: tasks and the order between them."""

    id: WorkflowId
    """What it is started by."""
    name: Name
    """What people call it."""
    description: str | None = Field(default=None, max_length=10_000)
    """What it is for."""
    version: str = Field(default="1.0", min_length=1, max_length=100)
    """Its author's own; Ops-Core numbers what it stores by itself."""
    tasks: tuple[TaskDefinition, ...] = Field(min_length=1, max_length=MAX_TASKS)
    """What is to be done."""
    schedule: str | None = Field(default=None, min_length=1, max_length=200)
    """A cron expression of five fields, in UTC: when it starts by itself."""
    agent_id: AgentId | None = None
    """The agent that the sessions belong to which the schedule starts."""
    missed: Missed = Missed.SKIP
    """What becomes of starts that fell into an outage: left out, or made up for."""
