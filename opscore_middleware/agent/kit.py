"""Registering with AgentKit, for agents that are configured to; others never load this."""

from __future__ import annotations

from typing import Any, TypeVar

from opscore_middleware.agent.link import Link
from opscore_middleware.agent.settings import Settings
from opscore_middleware.agentkit import client as agentkit
from opscore_middleware.core.models import AgentQuery, Registration
from opscore_middleware.errors import RemoteError
from opscore_middleware.protocol import calls
from opscore_middleware.protocol.call import Call

__all__ = ["Kit"]

T = TypeVar("T")


class Kit:
    """An AgentKit as the reporter's thread sees it. Its calls raise `Unreachable` and `Busy`.

    Args:
        settings: who this agent is.
        link: the way to AgentKit.
        opscore: the way to Ops-Core, which AgentKit tells of its agents.
    """

    def __init__(self, settings: Settings, link: Link, opscore: Link) -> None:
        self._settings = settings
        self._link = link
        self._opscore = opscore

    @property
    def url(self) -> str:
        """Where AgentKit is."""
        return self._link.api_url

    def close(self) -> None:
        """Drop the connection."""
        self._link.close()

    def forget(self) -> None:
        """Leave the connection to the parent process, after a fork."""
        self._link.forget()

    def register(self, name: str) -> str:
        """Return the id that AgentKit makes. Raises `AgentNameTaken` and `RemoteError`."""
        call = agentkit.register_agent(
            Registration(
                agent_name=name,
                version=self._settings.agent_version,
                capabilities=list(self._settings.capabilities),
                contact_endpoint=self._settings.contact_endpoint,
            )
        )
        answer = self._link.ask(call)
        return call.result(answer.status, answer.body)

    def find(self, name: str) -> str | None:
        """Return the id that AgentKit made when this agent registered before its restart.

        AgentKit is asked first, since it alone cannot be out of date; most versions do not list
        their agents, and then Ops-Core, which AgentKit told of it, knows. None where neither does.
        """
        listed = _tried(self._link, agentkit.list_agents()) or ()
        found = [agent.agent_id for agent in listed if agent.agent_name == name]
        if not found:
            page = _tried(self._opscore, calls.list_agents(AgentQuery(name=name)))
            known = sorted(page.items, key=lambda agent: agent.registered_at) if page else []
            found = [agent.agent_id for agent in known]
        return found[-1] if found else None


def _tried(link: Link, call: Call[T]) -> T | None:
    """Ask what another server need not be able to answer."""
    answer: Any = link.ask(call)
    try:
        return call.result(answer.status, answer.body)
    except RemoteError:
        return None
