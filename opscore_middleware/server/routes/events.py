"""Events: watch them as they come."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request

from opscore_middleware.core.watch import EventId, Wanted, WatchQuery
from opscore_middleware.server.errors import responses
from opscore_middleware.server.routes.dependencies import KnownParameters, Watching, admission
from opscore_middleware.server.stream import EventStream

__all__ = ["router"]

router = APIRouter(prefix="/v1/opscore", tags=["events"], dependencies=[KnownParameters])

_EXAMPLE: Final = (
    "retry: 1000\nid: 41\n\n"
    'id: 42\nevent: transition\ndata: {"eventId":42,"agentId":"4f0c","agentName":"summariser",'
    '"state":"active","timestamp":"2026-01-31T12:00:00Z","receivedAt":"2026-01-31T12:00:00.002Z",'
    '"instanceId":"i-1","sequence":3,"coalesced":0,"errors":0,"details":null}\n\n'
)
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Server-Sent Events, without an end. `transition` carries an `AgentEvent`; "
        "`reset`, `lagging` and `bye` say where to go on.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}


@router.get(
    "/events",
    status_code=200,
    response_class=EventStream,
    responses={**_STREAM, **responses(422)},
)
async def watch_events(
    query: Annotated[WatchQuery, Query()],
    request: Request,
    hub: Watching,
    last_event_id: Annotated[EventId | None, Header(alias="Last-Event-ID")] = None,
) -> EventStream:
    """Watch what agents report, as it comes; without `after`, from now on.

    `Last-Event-ID`, which browsers send when they connect again, wins over `after`.
    """
    admitted = admission(request)
    return EventStream(
        hub,
        Wanted.of(query),
        after=query.after if last_event_id is None else last_event_id,
        heartbeat=request.app.state.watch_heartbeat,
        may_stay=lambda: admitted.holds,
    )
