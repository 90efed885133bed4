"""What a key may do: by method and path, and for an agent's key by the name of the agent."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from cachetools import TTLCache

from opscore_middleware.core.keys import ADMIN, Kind, Scope
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.refusals import unknown_agent
from opscore_middleware.errors import Forbidden

__all__ = ["EVERYTHING", "NOTHING", "Access", "Names"]

_READS: Final = frozenset({"GET", "HEAD"})
# What an agent does about itself, and no more; a path with an id is for agents in its scope alone.
_OF_AGENTS: Final = (
    ("GET", re.compile(r"/v1/opscore/agents")),
    ("POST", re.compile(r"/v1/opscore/agents")),
    ("GET", re.compile(r"/v1/opscore/agents/[^/]+(/history)?")),
    ("GET", re.compile(r"/v1/opscore/agent/[^/]+/state")),
    ("POST", re.compile(r"/v1/opscore/agent/[^/]+/(state|states|heartbeat)")),
    # Whose task that is, the route looks at.
    ("POST", re.compile(r"/v1/opscore/tasks/[^/]+/(result|progress)")),
)
_WITH_ID: Final = re.compile(r"/v1/opscore/agents?/([^/]+)(?:/.*)?", re.DOTALL)

_REMEMBERED: Final = 10_000  # agents
_FOR: Final = 10.0  # seconds


class Access(NamedTuple):
    """The key that a request carries, by its name, and what it opens."""

    name: str
    scope: Scope

    def require(self, method: str, path: str) -> None:
        """Raise `Forbidden` unless the key may do that at all."""
        kind = self.scope.kind
        if kind is Kind.ADMIN or (kind is Kind.READ and method in _READS):
            return
        of_agents = any(m == method and p.fullmatch(path) for m, p in _OF_AGENTS)
        if kind is Kind.AGENT and of_agents:
            return
        if method in _READS:
            needed = "read"
        elif of_agents:
            needed = "agent:NAME or admin"
        else:
            needed = "admin"
        raise self._refusal(f"{method} needs the scope {needed} there", needed)

    def require_agent(self, agent_name: str) -> None:
        """Raise `Forbidden` unless an agent with that name is within the scope."""
        if not self.scope.sees(agent_name):
            raise self._refusal(
                "that agent's name does not match; it needs the scope agent:NAME with a pattern "
                "that does, or admin",
                "agent:NAME or admin",
            )

    def _refusal(self, reason: str, needed: str) -> Forbidden:
        return Forbidden(
            f"The key {self.name!r} has the scope {self.scope}, and {reason}.",
            scope=str(self.scope),
            needed=needed,
        )


EVERYTHING: Final = Access("OPSCORE_API_KEY", ADMIN)
"""What the server's own key opens, and everybody where there is none."""

NOTHING: Final = Access("none", Scope(Kind.AGENT, ""))
"""What those have who show no key, where none is needed."""


class Names:
    """Whose agent an id is, remembered for ten seconds, so that reports ask for it rarely."""

    def __init__(self, opscore: OpsCore) -> None:
        self._opscore = opscore
        self._known: TTLCache[str, str] = TTLCache(_REMEMBERED, _FOR)

    async def require(self, access: Access, path: str) -> None:
        """Raise `Forbidden` when the path names an agent outside the scope.

        Raises `AgentNotFound` when it names one that nobody knows: between this look and the next
        somebody else may register it.
        """
        found = _WITH_ID.fullmatch(path)
        if found is None:
            return
        name = await self.of(found[1])
        if name is None:
            raise unknown_agent(found[1])
        access.require_agent(name)

    async def of(self, agent_id: str) -> str | None:
        """Return an agent's name; None when nobody was ever registered under that id."""
        name = self._known.get(agent_id)
        if name is None:
            name = await self._opscore.name_of(agent_id)
            if name is not None:
                self._known[agent_id] = name
        return name
