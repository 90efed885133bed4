"""Is the server there."""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter, Request

from opscore_middleware.core.models import Wire
from opscore_middleware.server.routes.dependencies import Core

__all__ = ["Health", "router"]

router = APIRouter(tags=["health"])


class Health(Wire):
    """The server answers; which version it is, what it stores in, how long it has been up."""

    status: Literal["ok"] = "ok"
    version: str
    store: str
    uptime_seconds: float


@router.get("/health")
async def health(request: Request, opscore: Core) -> Health:
    """Say that the server is there. Needs no key."""
    return Health(
        version=request.app.version,
        store=opscore.store.name,
        uptime_seconds=round(time.monotonic() - request.app.state.started, 3),
    )
