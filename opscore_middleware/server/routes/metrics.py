"""What Prometheus asks for."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from opscore_middleware.server.errors import responses
from opscore_middleware.server.metrics import Metrics

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse, responses=responses())
async def metrics(request: Request) -> Response:
    """Return what is measured, in Prometheus' words. Needs a key that reads, unless made public."""
    measured: Metrics = request.app.state.metrics
    content, content_type = await measured.render(request.headers.get("accept", ""))
    return Response(content, headers={"content-type": content_type})
