"""What travels and what is kept: frozen models, snake_case in Python and camelCase on the wire.

Domain and wire share one definition. Times are aware UTC `datetime`s; a time without an offset is
refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic.alias_generators import to_camel

from opscore_middleware.core.durations import Span
from opscore_middleware.core.names import (
    AGENT_ID,
    ENDPOINT,
    LONGEST_ENDPOINT,
    LONGEST_NAME,
    LONGEST_VERSION,
    MOST_CAPABILITIES,
    PLAIN,
    STEPS,
    VERSION,
)

__all__ = [
    "Agent",
    "AgentId",
    "AgentQuery",
    "AgentStateView",
    "Batch",
    "BatchAccepted",
    "Heartbeat",
    "HeartbeatAnswer",
    "HistoryQuery",
    "Instance",
    "Liveness",
    "Name",
    "Order",
    "Page",
    "Query",
    "Registration",
    "StateAccepted",
    "StateReport",
    "Transition",
    "Utc",
    "Wire",
]

T = TypeVar("T")


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is before year 1 or after year 9999 in UTC") from None


Utc = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""An aware time, converted to UTC."""


def _no_step(segment: str) -> str:
    if segment in STEPS:
        raise ValueError(
            f"{segment!r} stands for another place in an address, and is taken out of it on the "
            "way; choose an id with more than dots in it"
        )
    return segment


AgentId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=AGENT_ID),
    AfterValidator(_no_step),
    Field(json_schema_extra={"not": {"enum": list(STEPS)}}),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=PLAIN)]
InstanceId = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=PLAIN)]
_MAX_COUNT = 2**53 - 1  # the largest integer that every JSON reader keeps exactly


class Wire(BaseModel):
    """A frozen model that is snake_case in Python and camelCase in JSON."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        ser_json_inf_nan="null",
        # An agent uses a few of these models and imports them all: build each on first use.
        defer_build=True,
    )


class StateReport(Wire):
    """One report of an agent's state, as it travels.

    `sequence` rises by one with every transition of an instance, from 1; gaps are allowed where
    transitions were folded together. `coalesced` counts the transitions folded into this report,
    `errors` the failures among them.
    """

    agent_id: AgentId
    timestamp: Utc
    state: str = Field(min_length=1, max_length=64, examples=["idle"])
    details: dict[str, Any] | None = None
    instance_id: InstanceId | None = None
    started_at: Utc | None = None
    sequence: int | None = Field(default=None, ge=1, le=_MAX_COUNT)
    coalesced: int = Field(default=0, ge=0, le=_MAX_COUNT)
    errors: int = Field(default=0, ge=0, le=_MAX_COUNT)


class Batch(Wire):
    """Several reports of one agent, taken all or none."""

    reports: list[StateReport] = Field(min_length=1, max_length=1000)


class StateAccepted(Wire):
    """The answer to a single report."""

    status: str = "success"
    message: str = "State update accepted"


class BatchAccepted(Wire):
    """The answer to a batch: how many reports were new and how many were known already."""

    accepted: int
    duplicates: int


class Heartbeat(Wire):
    """An instance says that it lives; this never changes a state.

    `state` and `sequence` are what it was in and had reported when it said so, for Ops-Core to
    compare; `interval_seconds` is when it will say so again, and three of them without a word
    make it lost.
    """

    instance_id: InstanceId
    started_at: Utc | None = None
    state: str = Field(min_length=1, max_length=64)
    sequence: int = Field(ge=0, le=_MAX_COUNT)
    interval_seconds: float = Field(gt=0, le=86400, allow_inf_nan=False)
    loop_lag_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    in_flight: int | None = Field(default=None, ge=0, le=_MAX_COUNT)


class HeartbeatAnswer(Wire):
    """What Ops-Core knows of an instance, and what it asks of it.

    `last_sequence` is the highest that it has of the instance, 0 for none: less than the instance
    has reported means that Ops-Core has lost something, and wants the state again.
    """

    state: str
    last_sequence: int
    drain: bool = False
    cancel: list[str] = Field(default_factory=list)
    interval_seconds: float


class Registration(Wire):
    """An agent makes itself known without AgentKit.

    `deregister_after` takes it out, as if on purpose, once all of its instances have been lost for
    so long; in seconds, and written with a unit too.
    """

    agent_id: AgentId | None = None
    agent_name: Name
    version: str = Field(default="", max_length=LONGEST_VERSION, pattern=VERSION)
    capabilities: list[Name] = Field(default_factory=list, max_length=MOST_CAPABILITIES)
    contact_endpoint: str | None = Field(
        default=None, max_length=LONGEST_ENDPOINT, pattern=ENDPOINT
    )
    instance_id: InstanceId | None = None
    metadata: dict[str, Any] | None = None
    deregister_after: Span | None = None


class AgentStateView(Wire):
    """The current state of an agent; `timestamp` is when that state was entered."""

    agent_id: str
    state: str
    details: dict[str, Any] | None
    timestamp: Utc


class Liveness(StrEnum):
    """Whether an instance is heard from: as it said, overdue, or not any more."""

    ALIVE = "alive"
    LATE = "late"
    LOST = "lost"


class Instance(Wire):
    """One process of an agent.

    `interval_seconds`, `loop_lag_seconds` and `in_flight` are what its last heartbeat said.
    """

    instance_id: str | None
    state: str
    details: dict[str, Any] | None
    timestamp: Utc
    sequence: int | None
    started_at: Utc | None
    last_seen_at: Utc
    contact_endpoint: str | None
    liveness: Liveness = Liveness.ALIVE
    interval_seconds: float | None = None
    loop_lag_seconds: float | None = None
    in_flight: int | None = None


class Agent(Wire):
    """An agent, its state folded over its instances, and those instances."""

    agent_id: str
    agent_name: str
    version: str
    capabilities: list[str]
    contact_endpoint: str | None
    metadata: dict[str, Any] | None
    registered_at: Utc
    deregister_after: float | None = None
    state: str
    details: dict[str, Any] | None
    timestamp: Utc
    lost: bool
    instances: list[Instance]


class Transition(Wire):
    """One line of an agent's history, in the order in which Ops-Core learned of it."""

    event_id: int
    agent_id: str
    state: str
    details: dict[str, Any] | None
    timestamp: Utc
    received_at: Utc
    instance_id: str | None
    sequence: int | None
    coalesced: int
    errors: int


class Page(Wire, Generic[T]):
    """One page of a list; ask again with `next_cursor` for what follows, until it is null."""

    items: list[T]
    next_cursor: str | None = None


class Order(StrEnum):
    """Which end of a history comes first."""

    ASC = "asc"
    DESC = "desc"


class Query(Wire):
    """What is asked for in an address; built at once, since FastAPI reads it as it is defined."""

    model_config = ConfigDict(defer_build=False)


class AgentQuery(Query):
    """Which agents to list. `name` and `state` match exactly, `capability` any of an agent's."""

    name: str | None = None
    state: str | None = None
    capability: str | None = None
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None


class HistoryQuery(Query):
    """Which part of an agent's history to list, newest first unless told otherwise."""

    order: Order = Order.DESC
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None
