"""What routes are handed."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from opscore_middleware.core.opscore import OpsCore

__all__ = ["AgentIdPath", "Core", "SessionIdPath"]


async def _opscore(request: Request) -> OpsCore:
    opscore: OpsCore = request.app.state.opscore
    return opscore


Core = Annotated[OpsCore, Depends(_opscore)]
"""The use cases of the app that serves the request."""

AgentIdPath = Annotated[str, Path(alias="agentId", min_length=1, max_length=200)]
"""The agent that the path names."""

SessionIdPath = Annotated[str, Path(alias="sessionId", min_length=1, max_length=200)]
"""The session that the path names."""
