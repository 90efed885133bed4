"""What routes are handed."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from opscore_middleware.core.clock import Clock
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.server.access import Access, Names
from opscore_middleware.server.gate import ACCESS
from opscore_middleware.server.watch import Hub

__all__ = [
    "AgentIdPath",
    "AgentNames",
    "Asking",
    "Core",
    "Now",
    "Runs",
    "SessionIdPath",
    "Watching",
]


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

AgentIdPath = Annotated[str, Path(alias="agentId", min_length=1, max_length=200)]
"""The agent that the path names."""

SessionIdPath = Annotated[str, Path(alias="sessionId", min_length=1, max_length=200)]
"""The session that the path names."""
