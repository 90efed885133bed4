"""What routes are handed."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Path, Request

from opscore_middleware.core.clock import Clock
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.errors import ValidationFailed
from opscore_middleware.server.access import Access, Names
from opscore_middleware.server.admission import Admission
from opscore_middleware.server.gate import ACCESS
from opscore_middleware.server.spelling import advice
from opscore_middleware.server.watch import Hub

__all__ = [
    "AgentIdPath",
    "AgentNames",
    "Asking",
    "Core",
    "KnownParameters",
    "Now",
    "Runs",
    "SessionIdPath",
    "Watching",
    "admission",
]

_AGENTKITS: Final = "/v1/opscore/agent/"
"""The paths that AgentKit's clients know, who may say more than is known here."""


async def _opscore(request: Request) -> OpsCore:
    opscore: OpsCore = request.app.state.opscore
    return opscore


Core = Annotated[OpsCore, Depends(_opscore)]
"""The use cases of the app that serves the request."""


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


Runs = Annotated[Engine, Depends(_engine)]
"""The use cases of workflows."""


async def _clock(request: Request) -> Clock:
    clock: Clock = request.app.state.clock
    return clock


Now = Annotated[Clock, Depends(_clock)]
"""What tells the time."""


async def _access(request: Request) -> Access:
    access: Access = request.scope[ACCESS]
    return access


Asking = Annotated[Access, Depends(_access)]
"""What the key of the request opens."""


async def _names(request: Request) -> Names:
    names: Names = request.app.state.names
    return names


AgentNames = Annotated[Names, Depends(_names)]
"""Whose agent an id is."""


async def _hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


Watching = Annotated[Hub, Depends(_hub)]
"""What hands out events as they come."""


def admission(request: Request) -> Admission:
    """Return what the request was let in by, to look again while it is open."""
    state = request.app.state
    return Admission(state.guard, state.names, request.scope)


async def _known_parameters(request: Request) -> None:
    path, method = request.scope["route"].path, request.method.lower()
    # The document is made at its first reading, which takes as long as many requests do.
    if not request.query_params or path.startswith(_AGENTKITS):
        return
    operation = request.app.openapi()["paths"][path][method]
    known = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
    faults = [
        {"type": "unknown_name", "loc": ("query", name), "msg": advice(name, known), "input": value}
        for name, value in request.query_params.items()
        if name not in known
    ]
    if faults:
        raise ValidationFailed(faults)


KnownParameters: Final = Depends(_known_parameters)
"""Refuses a query with a name that the document of the API does not list for the route."""

AgentIdPath = Annotated[str, Path(alias="agentId", min_length=1, max_length=200)]
"""The agent that the path names."""

SessionIdPath = Annotated[str, Path(alias="sessionId", min_length=1, max_length=200)]
"""The session that the path names."""
