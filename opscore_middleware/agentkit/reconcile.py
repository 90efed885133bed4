"""Agents that AgentKit lists and Ops-Core was never told of."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from opscore_middleware.agentkit.models import AgentDetails
from opscore_middleware.core.models import Registration
from opscore_middleware.errors import ValidationFailed

__all__ = ["missing"]


def missing(listed: Iterable[AgentDetails], known: Collection[str]) -> list[Registration]:
    """Return what to register so that every listed agent is known, in the order of the list.

    `known` holds the ids that Ops-Core has, deregistered ones too: those stay as they are. An
    entry that Ops-Core could not register is left out, so that one odd agent hides no other.
    """
    found: dict[str, Registration] = {}
    for agent in listed:
        if agent.agent_id in known or agent.agent_id in found:
            continue
        try:
            found[agent.agent_id] = agent.registration()
        except ValidationFailed:
            continue
    return list(found.values())
