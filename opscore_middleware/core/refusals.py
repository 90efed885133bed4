"""The words in which Ops-Core says that it does not know somebody, or no longer."""

from __future__ import annotations

from opscore_middleware.errors import AgentDeregistered, AgentNotFound, SessionNotFound

__all__ = ["deregistered_agent", "unknown_agent", "unknown_session"]


def unknown_agent(agent_id: str) -> AgentNotFound:
    """Return the error for an agent that was never registered."""
    return AgentNotFound(
        f"No agent with id {agent_id!r} is registered here; `opscore agents list` shows the "
        "ones that are, POST /v1/opscore/agents registers one.",
        agent_id=agent_id,
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
