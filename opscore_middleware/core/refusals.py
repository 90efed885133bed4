"""The words in which Ops-Core says that it does not know somebody, or no longer."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

from opscore_middleware.core.records import AgentRecord
from opscore_middleware.errors import AgentDeregistered, AgentNotFound, SessionNotFound

__all__ = ["CANDIDATES", "deregistered_agent", "nearest", "unknown_agent", "unknown_session"]

CANDIDATES: Final = 100
"""How many agents are looked through for the nearest ones, which is done for errors alone."""
_SHOWN: Final = 3


def nearest(wanted: str, agents: Sequence[AgentRecord]) -> list[AgentRecord]:
    """Return the few agents whose id or name is most like what was asked for, the best first."""
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)

    def likeness(agent: AgentRecord) -> float:
        best = 0.0
        for text in (agent.agent_id, agent.agent_name):
            matcher.set_seq1(text)
            # An upper bound, which spares most of the work.
            if matcher.quick_ratio() > best:
                best = max(best, matcher.ratio())
        return best

    return heapq.nlargest(_SHOWN, agents, key=likeness)


def unknown_agent(agent_id: str, known: Sequence[AgentRecord] = ()) -> AgentNotFound:
    """Return the error for an agent that was never registered; `known` are some that were."""
    near = nearest(agent_id, known)
    named = ", ".join(f"{agent.agent_name!r} ({agent.agent_id})" for agent in near)
    listed = [{"agentId": agent.agent_id, "agentName": agent.agent_name} for agent in near]
    return AgentNotFound(
        f"No agent with id {agent_id!r} is registered here; "
        f"{f'the nearest that are: {named}; ' if near else ''}"
        "`opscore agents list` shows the ones that are, POST /v1/opscore/agents registers one.",
        agent_id=agent_id,
        **({"nearest": listed} if near else {}),
    )


def deregistered_agent(agent_id: str) -> AgentDeregistered:
    """Return the error for an agent that was taken out on purpose."""
    return AgentDeregistered(
        f"Agent {agent_id!r} was deregistered; register it again with POST "
        "/v1/opscore/agents to bring it back.",
        agent_id=agent_id,
    )


def unknown_session(session_id: str) -> SessionNotFound:
    """Return the error for a session that was never started."""
    return SessionNotFound(
        f"No session with id {session_id!r} was started here; GET /v1/opscore/sessions lists the "
        "ones that were.",
        session_id=session_id,
    )
