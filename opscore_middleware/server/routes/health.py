"""Is the server there, and can it do its work."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Literal

from fastapi import APIRouter, Request

from opscore_middleware.core.models import Wire
from opscore_middleware.errors import NotReady, StoreUnavailable
from opscore_middleware.server.errors import Problem
from opscore_middleware.server.routes.dependencies import Core

__all__ = ["Health", "Ready", "router"]

router = APIRouter(tags=["health"])

_PATIENCE: Final = 2.0
"""How long the database may take to answer, in seconds, before the server is not ready."""


class Health(Wire):
    """The server answers; which version it is, what it stores in, how long it has been up."""

    status: Literal["ok"] = "ok"
    version: str
    store: str
    uptime_seconds: float


class Ready(Wire):
    """The server can do its work."""

    status: Literal["ready"] = "ready"


# Asked by HEAD as well, which is what many health checks send: `wget --spider`, for one.
@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health(request: Request, opscore: Core) -> Health:
    """Say that the server is there. Needs no key."""
    return Health(
        version=request.app.version,
        store=opscore.store.name,
        uptime_seconds=round(time.monotonic() - request.app.state.started, 3),
    )


@router.head("/ready", include_in_schema=False)
@router.get(
    "/ready",
    responses={503: {"model": Problem, "description": "It cannot do its work right now"}},
    openapi_extra={"security": []},
)
async def ready(opscore: Core) -> Ready:
    """Say that the server can do its work: the database answers, and it listens. Needs no key."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await opscore.check_ready()
    except TimeoutError:
        raise NotReady(f"The database has not answered within {_PATIENCE:g} seconds.") from None
    except StoreUnavailable as error:
        # Without the context: whoever asks shows no key, and need not know where the file lies.
        raise NotReady("The database cannot be used right now; the log says why.") from error
    return Ready()
