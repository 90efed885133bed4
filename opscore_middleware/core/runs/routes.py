"""Which ways lead to an agent, and in which order they are tried."""

from __future__ import annotations

from collections.abc import Sequence

from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.tasks import Route

__all__ = ["other_route", "routes_of"]


def routes_of(endpoint: Endpoint, *, agentkit: bool) -> Sequence[Route]:
    """Return the routes to an endpoint, the best first; none where it cannot be reached.

    `agentkit` says that Ops-Core knows an AgentKit to send through. The route that worked last
    goes first; where none is known to, the agent is spoken to straight, if it said where.
    """
    ways = []
    if endpoint.url is not None:
        ways.append(Route.DIRECT)
    if agentkit:
        ways.append(Route.AGENTKIT)
    if endpoint.preferred is Route.AGENTKIT:
        ways.reverse()
    return tuple(ways)


def other_route(endpoint: Endpoint, taken: Route | None, *, agentkit: bool) -> Route | None:
    """Return the route to try after one that was taken for nothing; None where there is none."""
    ways = routes_of(endpoint, agentkit=agentkit)
    first = taken or (ways[0] if ways else None)
    return next((way for way in ways if way is not first), None)
