"""The states of an agent, how one follows another, and how instances add up to an agent.

`TRANSITIONS` is the only place that says which state follows which. The tracker steps through it,
the diagram in `docs/states.md` is generated from it, and property tests drive it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = [
    "FOLD_ORDER",
    "REPORTABLE",
    "TRANSITIONS",
    "AgentState",
    "Cause",
    "Folded",
    "InstanceView",
    "fold",
    "mermaid",
    "step",
]


class AgentState(StrEnum):
    """The lifecycle of an agent, as it is spelled on the wire."""

    UNKNOWN = "UNKNOWN"
    INITIALIZING = "initializing"
    IDLE = "idle"
    ACTIVE = "active"
    ERROR = "error"
    DRAINING = "draining"
    FINISHED = "finished"


REPORTABLE: Final = frozenset(AgentState) - {AgentState.UNKNOWN}
"""The states that an agent may report; `UNKNOWN` is what it has before its first report."""


class Cause(StrEnum):
    """What happens to an agent, as far as its state goes."""

    STARTING = "startup begins"
    READY = "startup complete"
    STARTUP_FAILED = "startup failed"
    BEGAN = "first unit of work begins"
    ENDED = "last unit ends well"
    FAILED = "a unit fails"
    RESUMED = "other units still in flight"
    HELD = "error hold has passed"
    DRAIN = "shutdown or SIGTERM"
    FINISH = "shutdown complete"


_S, _C = AgentState, Cause

TRANSITIONS: Final[Mapping[AgentState, Mapping[Cause, AgentState]]] = MappingProxyType(
    {
        _S.UNKNOWN: {
            _C.STARTING: _S.INITIALIZING,
            _C.READY: _S.IDLE,
            _C.STARTUP_FAILED: _S.ERROR,
            _C.BEGAN: _S.ACTIVE,
            _C.FAILED: _S.ERROR,
            _C.DRAIN: _S.DRAINING,
            _C.FINISH: _S.FINISHED,
        },
        _S.INITIALIZING: {
            _C.READY: _S.IDLE,
            _C.STARTUP_FAILED: _S.ERROR,
            _C.BEGAN: _S.ACTIVE,
            _C.FAILED: _S.ERROR,
            _C.DRAIN: _S.DRAINING,
            _C.FINISH: _S.FINISHED,
        },
        _S.IDLE: {
            _C.STARTUP_FAILED: _S.ERROR,
            _C.BEGAN: _S.ACTIVE,
            _C.FAILED: _S.ERROR,
            _C.DRAIN: _S.DRAINING,
            _C.FINISH: _S.FINISHED,
        },
        _S.ACTIVE: {
            _C.STARTUP_FAILED: _S.ERROR,
            _C.ENDED: _S.IDLE,
            _C.FAILED: _S.ERROR,
            _C.DRAIN: _S.DRAINING,
            _C.FINISH: _S.FINISHED,
        },
        _S.ERROR: {
            _C.READY: _S.IDLE,
            _C.BEGAN: _S.ACTIVE,
            # Each failure is told, with its own details, even when the state stays the same.
            _C.STARTUP_FAILED: _S.ERROR,
            _C.FAILED: _S.ERROR,
            _C.RESUMED: _S.ACTIVE,
            _C.HELD: _S.IDLE,
            _C.DRAIN: _S.DRAINING,
            _C.FINISH: _S.FINISHED,
        },
        _S.DRAINING: {_C.FINISH: _S.FINISHED},
        _S.FINISHED: {},
    }
)
"""`TRANSITIONS[state][cause]` is the next state; a cause that is absent changes nothing."""


def step(state: AgentState, cause: Cause) -> AgentState | None:
    """Return the state that follows, or None where the cause changes nothing."""
    return TRANSITIONS[state].get(cause)


def mermaid() -> str:
    """Draw `TRANSITIONS` as a Mermaid state diagram; `docs/states.md` holds exactly this."""
    lines = ["stateDiagram-v2", "    [*] --> UNKNOWN"]
    lines += [
        f"    {state} --> {after}: {cause}"
        for state, row in TRANSITIONS.items()
        for cause, after in row.items()
    ]
    return "\n".join([*lines, "    finished --> [*]"])


FOLD_ORDER: Final = (
    _S.ACTIVE,
    _S.ERROR,
    _S.IDLE,
    _S.INITIALIZING,
    _S.DRAINING,
    _S.FINISHED,
)
"""The state of an agent with several live instances is the first of these that any of them has."""

_RANK: Final = {state.value: rank for rank, state in enumerate(FOLD_ORDER)}
# A state that an operator allowed beyond ours is shown when nothing works, fails or is free.
_EXTRA_RANK: Final = _RANK[_S.IDLE] + 0.5


class InstanceView(NamedTuple):
    """What the fold needs to know of one instance."""

    instance_id: str | None
    state: str
    last_seen_at: datetime
    lost: bool


class Folded(NamedTuple):
    """An agent's state and the position of the instance that it was taken from."""

    state: str
    position: int | None
    lost: bool


def fold(instances: Iterable[InstanceView]) -> Folded:
    """Add the instances of one agent up to the agent's state.

    Reports without an instance id count as one instance, which real instances supersede. Instances
    that are lost or finished only count when no other is there: then the one that was heard from
    last stands, and `lost` says whether it vanished without a word.
    """
    # An instance can be known, with its endpoint, before it has reported anything.
    candidates = [pair for pair in enumerate(instances) if pair[1].state != _S.UNKNOWN]
    real = [pair for pair in candidates if pair[1].instance_id is not None]
    candidates = real or candidates
    if not candidates:
        return Folded(_S.UNKNOWN, None, False)
    live = [(i, x) for i, x in candidates if not x.lost and x.state != _S.FINISHED]
    if live:
        position, view = min(
            live,
            key=lambda pair: (
                _RANK.get(pair[1].state, _EXTRA_RANK),
                -pair[1].last_seen_at.timestamp(),
            ),
        )
        return Folded(view.state, position, False)
    position, view = max(candidates, key=lambda pair: pair[1].last_seen_at)
    return Folded(view.state, position, view.lost and view.state != _S.FINISHED)
