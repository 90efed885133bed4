"""Sessions: start one, list them, look at one, say how it goes on and how it ends.

Those that run a workflow are driven by it, and can be stopped, halted and tried again.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from opscore_middleware.core.models import Page
from opscore_middleware.core.runs.views import SessionView
from opscore_middleware.core.sessions import Session, SessionChange, SessionQuery, SessionStart
from opscore_middleware.server.body import parse
from opscore_middleware.server.errors import INVALID, responses
from opscore_middleware.server.idempotency import IdempotencyKey, creation
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.openapi import request_body
from opscore_middleware.server.routes.dependencies import (
    Core,
    KnownParameters,
    Now,
    Runs,
    SessionIdPath,
)

__all__ = ["router"]

log = get_logger(__name__)
router = APIRouter(prefix="/v1/opscore", tags=["sessions"], dependencies=[KnownParameters])

_START: Final = TypeAdapter(SessionStart)
_CHANGE: Final = TypeAdapter(SessionChange)


@router.post(
    "/sessions",
    status_code=201,
    responses={
        200: {"model": Session, "description": "Started before, and returned as it is"},
        **responses(404, 409, 410, 413),
        **INVALID,
    },
    openapi_extra={"requestBody": request_body(SessionStart)},
)
async def start_session(
    request: Request, response: Response, opscore: Core, now: Now, key: IdempotencyKey = None
) -> Session:
    """Start a session of an agent. With an id of its own it can be started again without harm."""
    made = await creation(request, key, _started, clock=now)
    start = parse(_START, await request.body())
    session, created = await opscore.start_session(start, creation=made)
    response.status_code, _ = _started((session, created))
    if created:
        log.info("session_started", session_id=session.session_id, agent_id=session.agent_id)
    return session


def _started(made: tuple[Session, bool]) -> tuple[int, Session]:
    session, is_new = made
    return 201 if is_new else 200, session


@router.get("/sessions", responses=responses(400, 422))
async def list_sessions(query: Annotated[SessionQuery, Query()], opscore: Core) -> Page[Session]:
    """List sessions, newest first, a page at a time."""
    return await opscore.sessions(query)


@router.get("/sessions/{sessionId}", responses=responses(404, 422))
async def get_session(session_id: SessionIdPath, opscore: Core, runs: Runs) -> SessionView:
    """Return one session; for one that runs a workflow, with its tasks counted by state."""
    session = await opscore.session(session_id)
    counts = None if session.workflow_version is None else await runs.counts(session_id)
    return SessionView.of(session, counts)


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


@router.post("/sessions/{sessionId}/cancel", responses=responses(404, 409, 422))
async def cancel_session(session_id: SessionIdPath, runs: Runs) -> Session:
    """End a session and its tasks; agents that work on them are told with their next heartbeat."""
    return _told(await runs.cancel_session(session_id))


@router.post("/sessions/{sessionId}/pause", responses=responses(404, 409, 422))
async def pause_session(session_id: SessionIdPath, runs: Runs) -> Session:
    """Give out no more tasks of a session; those that are out go on."""
    return _told(await runs.pause_session(session_id))


@router.post("/sessions/{sessionId}/resume", responses=responses(404, 409, 422))
async def resume_session(session_id: SessionIdPath, runs: Runs) -> Session:
    """Go on with a session that was paused."""
    return _told(await runs.resume_session(session_id))


@router.post("/sessions/{sessionId}/retry", responses=responses(404, 409, 422))
async def retry_session(session_id: SessionIdPath, runs: Runs) -> Session:
    """Try the tasks of a session again that failed, and what comes after them."""
    return _told(await runs.retry_session(session_id))


def _told(session: Session) -> Session:
    log.info("session_changed", session_id=session.session_id, state=session.state.value)
    return session
