"""Workflows: keep a definition, list them, look at one, start one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import TypeAdapter

from opscore_middleware.core.models import Page
from opscore_middleware.core.runs.views import (
    WorkflowQuery,
    WorkflowStart,
    WorkflowStarted,
    WorkflowView,
)
from opscore_middleware.core.workflows.definition import WorkflowDefinition
from opscore_middleware.core.workflows.faults import path_of
from opscore_middleware.core.workflows.schema import json_schema
from opscore_middleware.errors import InvalidDefinition, InvalidInput, ValidationFailed
from opscore_middleware.notations.documents import read_document, repeated_names
from opscore_middleware.server.body import parse
from opscore_middleware.server.errors import INVALID, responses
from opscore_middleware.server.idempotency import IdempotencyKey, creation
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.openapi import request_body
from opscore_middleware.server.routes.dependencies import AgentIdPath, KnownParameters, Now, Runs
from opscore_middleware.server.spelling import refuse_misspelled
from opscore_middleware.server.tracing import traceparent

__all__ = ["router"]

log = get_logger(__name__)
router = APIRouter(prefix="/v1/opscore", tags=["workflows"], dependencies=[KnownParameters])

_START: Final = TypeAdapter(WorkflowStart)
_DEFINITION: Final[dict[str, Any]] = request_body(WorkflowDefinition)
_DEFINITION["content"]["application/yaml"] = {"schema": {"type": "string"}}

_DEFINITIONS: Final = ("workflowDefinition", "workflow_definition")

WorkflowIdPath = Annotated[str, Path(alias="workflowId", min_length=1, max_length=200)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


@router.post(
    "/workflows",
    status_code=201,
    responses={
        200: {"model": WorkflowView, "description": "A version of a definition that was known"},
        **responses(400, 413),
        **INVALID,
    },
    openapi_extra={"requestBody": _DEFINITION},
)
async def save_workflow(
    request: Request, response: Response, runs: Runs, now: Now, key: IdempotencyKey = None
) -> WorkflowView:
    """Keep a definition, in JSON or YAML, as the next version of its id.

    201 for an id that is new, else 200; a definition that is the same as the latest version is not
    kept again. Sessions go on with the version that they were started with.
    """
    document = read_document(await request.body()).value
    if not isinstance(document, Mapping):
        raise InvalidInput("A definition is an object: id, name and tasks.")
    made = await creation(request, key, _saved, clock=now)
    workflow, is_new = await runs.save_workflow(document, creation=made)
    response.status_code, _ = _saved((workflow, is_new))
    if is_new:
        log.info("workflow_saved", workflow_id=workflow.workflow_id, version=workflow.version)
    return workflow


def _saved(created: tuple[WorkflowView, bool]) -> tuple[int, WorkflowView]:
    workflow, is_new = created
    return 201 if is_new and workflow.version == 1 else 200, workflow


@router.get("/workflows", responses=responses(400, 422))
async def list_workflows(
    query: Annotated[WorkflowQuery, Query()], runs: Runs
) -> Page[WorkflowView]:
    """List the latest version of each definition by id, a page at a time."""
    return await runs.workflows(query)


@router.get("/workflows/schema", responses=responses(422))
async def workflow_schema() -> dict[str, Any]:
    """Return the JSON Schema of a definition, for editors."""
    return json_schema()


@router.get("/workflows/{workflowId}", responses=responses(404, 422))
async def get_workflow(
    workflow_id: WorkflowIdPath, runs: Runs, version: Version = None
) -> WorkflowView:
    """Return a version of a definition, the latest unless told."""
    return await runs.workflow(workflow_id, version=version)


@router.post(
    "/agent/{agentId}/workflow",
    status_code=202,
    responses={**responses(404, 410, 413), **INVALID},
    openapi_extra={"requestBody": request_body(WorkflowStart)},
)
async def start_workflow(
    agent_id: AgentIdPath, request: Request, runs: Runs, now: Now, key: IdempotencyKey = None
) -> WorkflowStarted:
    """Start a workflow for an agent: by a definition's id, or with a definition, one of the two.

    Its tasks go to that agent where it has the capability, else to any that has.
    """
    body = await request.body()
    refuse_misspelled(WorkflowStart, body)
    _refuse_repeats(body)
    start = parse(_START, body)
    made = await creation(request, key, _begun, clock=now)
    started = await runs.start(agent_id, start, creation=made, traceparent=traceparent())
    log.info(
        "workflow_started",
        session_id=started.session_id,
        workflow_id=started.workflow_id,
        agent_id=agent_id,
    )
    return started


def _refuse_repeats(body: bytes) -> None:
    """Raise for names that stand twice: in the body, or in the definition that comes along.

    A payload is whoever's it is.
    """
    repeats = repeated_names(body)
    if any(len(loc) == 1 for loc in repeats):
        told = "stands twice in the body; give it once"
        raise ValidationFailed(
            [
                {"type": "repeated_name", "loc": ("body", *loc), "msg": told, "input": None}
                for loc in repeats
                if len(loc) == 1
            ]
        )
    faults = [loc[1:] for loc in repeats if loc[0] in _DEFINITIONS]
    if faults:
        raise InvalidDefinition(
            [{"path": path_of(loc), "message": "stands twice in one object"} for loc in faults]
        )


def _begun(started: WorkflowStarted) -> tuple[int, WorkflowStarted]:
    return 202, started
