"""Sessions: start one, list them, look at one, say how it goes on and how it ends."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from opscore_middleware.core.models import Page
from opscore_middleware.core.sessions import Session, SessionChange, SessionQuery, SessionStart
from opscore_middleware.server.body import parse
from opscore_middleware.server.errors import responses
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.openapi import request_body
from opscore_middleware.server.routes.dependencies import Core, SessionIdPath

__all__ = ["router"]

log = get_logger(__name__)
router = APIRouter(prefix="/v1/opscore", tags=["sessions"])

_START: Final = TypeAdapter(SessionStart)
_CHANGE: Final = TypeAdapter(SessionChange)


@router.post(
    "/sessions",
    status_code=201,
    responses={
        200: {"model": Session, "description": "Started before, and returned as it is"},
        **responses(404, 409, 410, 413, 422),
    },
    openapi_extra={"requestBody": request_body(SessionStart)},
)
async def start_session(request: Request, response: Response, opscore: Core) -> Session:
    """Start a session of an agent. With an id of its own it can be started again without harm."""
    session, created = await opscore.start_session(parse(_START, await request.body()))
    if created:
        log.info("session_started", session_id=session.session_id, agent_id=session.agent_id)
    else:
        response.status_code = 200
    return session


@router.get("/sessions", responses=responses(400, 422))
async def list_sessions(query: Annotated[SessionQuery, Query()], opscore: Core) -> Page[Session]:
    """List sessions, newest first, a page at a time."""
    return await opscore.sessions(query)


@router.get("/sessions/{sessionId}", responses=responses(404, 422))
async def get_session(session_id: SessionIdPath, opscore: Core) -> Session:
    """Return one session."""
    return await opscore.session(session_id)


@router.patch(
    "/sessions/{sessionId}",
    responses=responses(404, 409, 413, 422),
    openapi_extra={"requestBody": request_body(SessionChange)},
)
async def update_session(session_id: SessionIdPath, request: Request, opscore: Core) -> Session:
    """Change a session. `completed`, `failed` and `cancelled` end it for good."""
    change = parse(_CHANGE, await request.body())
    session = await opscore.update_session(session_id, change)
    log.info("session_changed", session_id=session_id, state=session.state.value)
    return session
