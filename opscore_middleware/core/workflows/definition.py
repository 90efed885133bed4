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

WorkflowId = AgentId  # one segment of a path, too
TaskName = AgentId
_MAX_EXPRESSION: Final = 4000
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

Expression = Annotated[str, Field(min_length=1, max_length=_MAX_EXPRESSION)]
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

    model_config = ConfigDict(extra="forbid")


class Retry(_Part):
    """How often a task is tried, and how long between: full jitter under an exponential cap.

    `non_retryable` names the kinds of error that end it at once.
    """

    maximum_attempts: int = Field(default=3, ge=1, le=1000, strict=True)
    initial_interval: Duration = SECOND
    backoff_coefficient: float = Field(default=2.0, ge=1, le=100, allow_inf_nan=False, strict=True)
    maximum_interval: Duration = 60 * SECOND
    jitter: bool = Field(default=True, strict=True)
    non_retryable: tuple[Name, ...] = Field(default=(), max_length=100)


class Timeouts(_Part):
    """How long a task may take: until it is begun, from then to its end, and all in all."""

    schedule_to_start: Duration = 30 * SECOND
    start_to_close: Duration = 600 * SECOND
    schedule_to_close: Duration = 3600 * SECOND


class TaskDefinition(_Part):
    """One task: what is to be done, by whom, after which others.

    `next_task_id` says of another task that it comes after this one, `depends_on` of this one that
    it comes after others; both may be used. `when` is an expression that, where it is false, has
    the task skipped, `for_each` one that gives a list: the task is done once for each item.
    `delay` and `run_at` say when it may begin, once it is its turn; the later of both counts.
    """

    task_id: TaskName
    name: Name
    agent_capability: Name | None = None
    agent_id: AgentId | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    next_task_id: TaskName | None = None
    depends_on: tuple[TaskName, ...] = Field(default=(), max_length=MAX_TASKS)
    priority: int = Field(default=0, ge=-1000, le=1000, strict=True)
    when: Expression | None = None
    for_each: Expression | None = None
    retry: Retry = Field(default_factory=Retry)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    fallback_task_id: TaskName | None = None
    on_failure: OnFailure = OnFailure.FAIL
    delay: Duration | None = None
    run_at: Utc | None = None


class WorkflowDefinition(_Part):
    """A workflow: tasks and the order between them.

    `schedule` is a cron expression, in UTC; `agent_id` is the agent that the sessions which it
    starts belong to, and `missed` says what becomes of those that fell into an outage.
    """

    id: WorkflowId
    name: Name
    description: str | None = Field(default=None, max_length=10_000)
    version: str = Field(default="1.0", min_length=1, max_length=100)
    tasks: tuple[TaskDefinition, ...] = Field(min_length=1, max_length=MAX_TASKS)
    schedule: str | None = Field(default=None, min_length=1, max_length=200)
    agent_id: AgentId | None = None
    missed: Missed = Missed.SKIP
