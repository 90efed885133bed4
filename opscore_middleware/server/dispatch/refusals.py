"""Why an attempt was not taken, and what that means for the next one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import httpx

from opscore_middleware.core.clock import SECOND, to_micros
from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.errors import AgentUnknownToAgentKit, RemoteError

__all__ = ["Refused", "by_agent", "by_agentkit", "together", "unreachable"]

_LATER: Final = frozenset({429, 503})
_AGAIN: Final = frozenset({408, 425})
_LONGEST_ADDRESS: Final = 500
_LONGEST: Final = 86400.0
"""How long a `Retry-After` may put an attempt off, in seconds."""


class Refused(NamedTuple):
    """An attempt was not taken, and why.

    `final`: trying again cannot help. `later`: it only came too early, and is not spent;
    `retry_after` is what was asked for then, in seconds. `reached`: the agent itself refused.
    """

    error: dict[str, Any]
    final: bool = False
    later: bool = False
    retry_after: float | None = None
    reached: bool = False


def unreachable(route: Route, reason: str, *, kind: str = "AgentUnreachable") -> Refused:
    """Say that nobody has the attempt; another route may work, or the same one another time."""
    return Refused({"type": kind, "message": reason, "route": route.value})


def by_agentkit(error: RemoteError) -> Refused:
    """Say that AgentKit does not hand the attempt on."""
    status = error.remote_status or 0
    unknown = isinstance(error, AgentUnknownToAgentKit)
    return Refused(
        {
            "type": "AgentUnknownToAgentKit" if unknown else "AgentKitRefused",
            "message": error.message,
            "status": status,
            "route": Route.AGENTKIT.value,
        },
        # An agent that AgentKit has forgotten may be registered again.
        final=400 <= status < 500 and status not in _LATER | _AGAIN and not unknown,
        later=status in _LATER,
    )


def by_agent(response: httpx.Response, said: str, now: int) -> Refused:
    """Say what the agent answered. Its 4xx is final, but for those that ask to try again."""
    status = response.status_code
    message = f"The agent answered {status} {response.reason_phrase}".rstrip()
    if response.has_redirect_location:
        message += (
            f", which leads to {response.headers['location'][:_LONGEST_ADDRESS]}; redirects are "
            "not followed: register that address as contactEndpoint"
        )
    return Refused(
        {
            "type": "AgentRefused",
            "message": message,
            "status": status,
            "route": Route.DIRECT.value,
            "answer": said,
        },
        final=300 <= status < 500 and status not in _LATER | _AGAIN,
        later=status in _LATER,
        retry_after=_seconds(response.headers.get("retry-after"), now),
        reached=True,
    )


def together(refusals: Sequence[Refused], endpoint: Endpoint) -> Refused:
    """Return one refusal for those of all routes."""
    if len(refusals) == 1:
        return refusals[0]
    if not refusals:
        reason = (
            f"Agent {endpoint.agent_id!r} has registered no contactEndpoint, and there is no "
            "AgentKit to reach it through"
        )
        return Refused({"type": "NoRoute", "message": reason})
    return Refused(
        {
            "type": "AgentUnreachable",
            "message": "; ".join(str(refusal.error["message"]) for refusal in refusals),
            "routes": [refusal.error for refusal in refusals],
        },
        final=all(refusal.final for refusal in refusals),
        later=all(refusal.later for refusal in refusals),
    )


def _seconds(value: str | None, now: int) -> float | None:
    """Read a `Retry-After`: seconds, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value), _LONGEST)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter for years and offsets of many digits
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((to_micros(moment) - now) / SECOND, 0.0), _LONGEST)
