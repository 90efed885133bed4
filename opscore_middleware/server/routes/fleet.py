"""All agents at a glance."""

from __future__ import annotations

from fastapi import APIRouter

from opscore_middleware.core.fleet import Fleet
from opscore_middleware.server.errors import responses
from opscore_middleware.server.routes.dependencies import Core, KnownParameters

__all__ = ["router"]

router = APIRouter(prefix="/v1/opscore", tags=["agents"], dependencies=[KnownParameters])


@router.get("/fleet", responses=responses(422))
async def fleet(opscore: Core) -> Fleet:
    """Count agents by state and instances by liveness, and name the longest silent one."""
    return await opscore.fleet()
