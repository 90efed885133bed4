"""All agents at a glance: how many are in which state, and who has been silent for longest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.doubt import Doubt
from opscore_middleware.core.models import Liveness, Utc, Wire
from opscore_middleware.core.states import AgentState, InstanceView, fold

__all__ = [
    "Crew",
    "Fleet",
    "Headcount",
    "Incident",
    "Member",
    "SilentInstance",
    "Unseen",
    "fleet_from",
]


class Member(NamedTuple):
    """What counts of one instance; `named` is false for reports that name no instance."""

    named: bool
    liveness: Liveness
    state: str


class Crew(NamedTuple):
    """So many agents have these instances, from the one heard of longest ago to the last."""

    agents: int
    members: tuple[Member, ...]


class Unseen(NamedTuple):
    """An instance and when it was last heard of, in microseconds since the Unix epoch."""

    agent_id: str
    agent_name: str
    instance_id: str
    last_seen_at: int


class Headcount(NamedTuple):
    """What a store knows of the fleet: alike agents together, and the longest silent instance."""

    crews: Sequence[Crew]
    longest_silent: Unseen | None


class SilentInstance(Wire):
    """The instance that has been silent for longest, of those that send heartbeats."""

    agent_id: str
    agent_name: str
    instance_id: str
    since: Utc


class Incident(Wire):
    """Most of the fleet fell silent together, so Ops-Core doubts itself `until` then."""

    since: Utc
    until: Utc
    silent: int
    of: int


class Fleet(Wire):
    """All agents at a glance, those taken out left out.

    `states` counts agents, `lost` those of them that vanished without a word; `liveness` counts
    the instances that have not finished. `reports_per_second` is what the server that was asked
    has taken in the last minute. `doubt` is an incident that is on.
    """

    agents: int
    lost: int
    states: dict[str, int]
    liveness: dict[Liveness, int]
    longest_silent: SilentInstance | None
    reports_per_second: float
    doubt: Incident | None = None


def fleet_from(
    headcount: Headcount, *, reports_per_second: float, doubt: Doubt | None = None
) -> Fleet:
    """Fold each agent's instances, and count."""
    states = Counter({state.value: 0 for state in AgentState})
    liveness = Counter(dict.fromkeys(Liveness, 0))
    lost = 0
    for crew in headcount.crews:
        folded = fold(
            InstanceView(
                "named" if member.named else None,
                member.state,
                from_micros(position),
                member.liveness is Liveness.LOST,
            )
            for position, member in enumerate(crew.members)
        )
        states[folded.state] += crew.agents
        lost += crew.agents if folded.lost else 0
        for member in crew.members:
            if member.state != AgentState.FINISHED:
                liveness[member.liveness] += crew.agents
    silent = headcount.longest_silent
    return Fleet(
        agents=sum(crew.agents for crew in headcount.crews),
        lost=lost,
        states=dict(states),
        liveness=dict(liveness),
        longest_silent=None
        if silent is None
        else SilentInstance(
            agent_id=silent.agent_id,
            agent_name=silent.agent_name,
            instance_id=silent.instance_id,
            since=from_micros(silent.last_seen_at),
        ),
        reports_per_second=round(reports_per_second, 3),
        doubt=None
        if doubt is None
        else Incident(
            since=from_micros(doubt.mark.seen_at),
            until=from_micros(doubt.until),
            silent=doubt.silent,
            of=doubt.fleet,
        ),
    )
