"""What is told to those who watch: events as they travel, and which of them somebody wants."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import to_json

from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.durations import seconds
from opscore_middleware.core.models import AgentStateView, Query, Transition

__all__ = [
    "LONGEST_WAIT",
    "AgentEvent",
    "EventId",
    "EventRecord",
    "StateQuery",
    "Wait",
    "Wanted",
    "WatchQuery",
    "WatchedState",
    "encode",
]

LONGEST_WAIT: Final = 60.0
"""How long a question for a state may be left open, in seconds."""

_LARGEST: Final = 2**63 - 1  # what a database counts to


def _seconds(value: Any) -> Any:
    return seconds(value) if isinstance(value, str) else value


EventId = Annotated[int, Field(ge=0, le=_LARGEST)]
"""Where somebody stands in the events of all agents; 0 is before the first."""
Wait = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, le=LONGEST_WAIT),
    WithJsonSchema({"type": "string", "examples": ["30s", "500ms"]}),
]
"""Seconds, written as a number or with a unit."""


class AgentEvent(Transition):
    """One transition as it is told to those who watch: with the name of its agent."""

    agent_name: str


class WatchQuery(Query):
    """Which events to watch, and after which id; without one, from now on.

    `name` and `capability` are the agent's as they are now, `state` the one that it changed to.
    """

    agent_id: str | None = None
    name: str | None = None
    state: str | None = None
    capability: str | None = None
    after: EventId | None = None


class StateQuery(Query):
    """How long to wait for an agent's next event, and after which one it counts as next.

    Without `after` that is the first from now on. `wait` is at most a minute.
    """

    wait: Wait | None = None
    after: EventId | None = None


class WatchedState(AgentStateView):
    """The current state of an agent; `event_id` is what to ask for the next one `after`."""

    event_id: EventId


class EventRecord(NamedTuple):
    """One event as a store keeps it, with its agent as it is now.

    `details` is JSON text on one line; times are microseconds since the Unix epoch, UTC.
    """

    event_id: EventId
    agent_id: str
    agent_name: str
    capabilities: tuple[str, ...]
    state: str
    details: str | None
    timestamp: int
    received_at: int
    instance_id: str | None
    sequence: int | None
    coalesced: int
    errors: int


class Wanted(NamedTuple):
    """Which events somebody wants; None takes any. Equal ones are served together."""

    agent_id: str | None = None
    name: str | None = None
    state: str | None = None
    capability: str | None = None

    @classmethod
    def of(cls, query: WatchQuery) -> Wanted:
        """Return what a query asks for; states are matched without regard to case."""
        state = None if query.state is None else query.state.lower()
        return cls(query.agent_id, query.name, state, query.capability)

    def takes(self, event: EventRecord) -> bool:
        """Tell whether an event is wanted."""
        return (
            self.agent_id in (None, event.agent_id)
            and self.name in (None, event.agent_name)
            and self.state in (None, event.state.lower())
            and (self.capability is None or self.capability in event.capabilities)
        )


def encode(event: EventRecord) -> bytes:
    """Return an event as an `AgentEvent` travels, in JSON on one line."""
    head = to_json(
        {
            "eventId": event.event_id,
            "agentId": event.agent_id,
            "agentName": event.agent_name,
            "state": event.state,
            "timestamp": from_micros(event.timestamp),
            "receivedAt": from_micros(event.received_at),
            "instanceId": event.instance_id,
            "sequence": event.sequence,
            "coalesced": event.coalesced,
            "errors": event.errors,
        }
    )
    # What was stored is JSON already: to read it only to write it again would cost the most.
    details = "null" if event.details is None else event.details
    return b'%s,"details":%s}' % (head[:-1], details.encode())
