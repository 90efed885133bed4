"""Agents: make one known, take one out, list them, look at one, its state and its history."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from opscore_middleware.core.models import (
    Agent,
    AgentQuery,
    AgentStateView,
    HistoryQuery,
    Page,
    Registration,
    Transition,
)
from opscore_middleware.core.watch import StateQuery, WatchedState
from opscore_middleware.server.body import parse
from opscore_middleware.server.errors import INVALID, responses
from opscore_middleware.server.idempotency import IdempotencyKey, creation
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.openapi import request_body
from opscore_middleware.server.poll import next_state
from opscore_middleware.server.routes.dependencies import (
    AgentIdPath,
    AgentNames,
    Asking,
    Core,
    KnownParameters,
    Now,
    Watching,
    admission,
)
from opscore_middleware.server.spelling import refuse_misspelled

__all__ = ["router"]

log = get_logger(__name__)
router = APIRouter(prefix="/v1/opscore", tags=["agents"], dependencies=[KnownParameters])

_REGISTRATION: Final = TypeAdapter(Registration)


@router.post(
    "/agents",
    status_code=201,
    responses={
        200: {"model": Agent, "description": "Known already, and updated"},
        **responses(413),
        **INVALID,
    },
    openapi_extra={"requestBody": request_body(Registration)},
)
async def register_agent(
    request: Request,
    response: Response,
    opscore: Core,
    asking: Asking,
    names: AgentNames,
    now: Now,
    key: IdempotencyKey = None,
) -> Agent:
    """Make an agent known without AgentKit. The same name gets the same id again."""
    body = await request.body()
    refuse_misspelled(Registration, body)
    registration = parse(_REGISTRATION, body)
    asking.require_agent(registration.agent_name)
    if registration.agent_id is not None and asking.scope.names is not None:
        # An id that is given wins over the name: it must not be another agent's.
        asking.require_agent(await names.of(registration.agent_id) or registration.agent_name)
    made = await creation(request, key, _registered, clock=now)
    agent, created = await opscore.register(registration, creation=made)
    response.status_code, _ = _registered((agent, created))
    log.info("agent_registered", agent_id=agent.agent_id, agent_name=agent.agent_name, new=created)
    return agent


def _registered(made: tuple[Agent, bool]) -> tuple[int, Agent]:
    agent, is_new = made
    return 201 if is_new else 200, agent


@router.get("/agents", responses=responses(400, 422))
async def list_agents(
    query: Annotated[AgentQuery, Query()], opscore: Core, asking: Asking
) -> Page[Agent]:
    """List agents by name, a page at a time; those alone that the key opens."""
    return await opscore.agents(query, sees=asking.scope.sees)


@router.get("/agents/{agentId}", responses=responses(404, 410, 422))
async def get_agent(agent_id: AgentIdPath, opscore: Core) -> Agent:
    """Return one agent with its instances."""
    return await opscore.agent(agent_id)


@router.delete("/agents/{agentId}", status_code=204, responses=responses(404, 422))
async def deregister_agent(agent_id: AgentIdPath, opscore: Core) -> None:
    """Take an agent out on purpose; its history stays, and registering brings it back."""
    await opscore.deregister(agent_id)
    log.info("agent_deregistered", agent_id=agent_id)


@router.get("/agents/{agentId}/history", responses=responses(400, 404, 422))
async def history(
    agent_id: AgentIdPath, query: Annotated[HistoryQuery, Query()], opscore: Core
) -> Page[Transition]:
    """List an agent's transitions, newest first unless told otherwise, a page at a time."""
    return await opscore.history(agent_id, query)


@router.get("/agent/{agentId}/state", responses=responses(404, 410, 422))
async def get_agent_state(
    agent_id: AgentIdPath,
    query: Annotated[StateQuery, Query()],
    request: Request,
    opscore: Core,
    hub: Watching,
) -> AgentStateView | WatchedState:
    """Return an agent's current state alone.

    With `wait` or `after`, only once the agent has an event after that one, or `wait` is over; the
    answer has `eventId` then, to ask for the next one with.
    """
    if query.wait is None and query.after is None:
        return await opscore.agent_state(agent_id)
    admitted = admission(request)
    return await next_state(opscore, hub, agent_id, query, request.receive, admission=admitted)
