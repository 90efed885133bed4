"""Tasks: look at them, end them, say how far they are, try them again."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from pydantic import TypeAdapter

from opscore_middleware.core.models import Page
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.tasks import split_attempt_id
from opscore_middleware.core.runs.views import (
    Replayed,
    TaskProgress,
    TaskQuery,
    TaskResult,
    TaskView,
    Why,
    task_of,
)
from opscore_middleware.server.access import Access, Names
from opscore_middleware.server.body import parse
from opscore_middleware.server.errors import responses
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.openapi import request_body
from opscore_middleware.server.routes.dependencies import AgentNames, Asking, KnownParameters, Runs

__all__ = ["router"]

log = get_logger(__name__)
router = APIRouter(prefix="/v1/opscore/tasks", tags=["tasks"], dependencies=[KnownParameters])

_RESULT: Final = TypeAdapter(TaskResult)
_PROGRESS: Final = TypeAdapter(TaskProgress)

TaskIdPath = Annotated[str, Path(alias="taskId", min_length=1, max_length=220)]
"""A task, or `<taskId>.<attempt>`, one attempt of it."""


@router.get("", responses=responses(400, 422))
async def list_tasks(query: Annotated[TaskQuery, Query()], runs: Runs) -> Page[TaskView]:
    """List tasks, newest first, a page at a time; with `dead`, those that failed for good."""
    return await runs.tasks(query)


@router.post("/dead/replay", responses=responses(422))
async def replay_dead(runs: Runs) -> Replayed:
    """Try all tasks again that sessions failed for; what one went on without stays as it is."""
    replayed = await runs.replay_dead()
    log.info("dead_tasks_replayed", tasks=replayed)
    return Replayed(replayed=replayed)


@router.get("/{taskId}", responses=responses(404, 422))
async def get_task(task_id: TaskIdPath, runs: Runs) -> TaskView:
    """Return one task."""
    return await runs.task(task_id)


@router.get("/{taskId}/why", responses=responses(404, 422))
async def why(task_id: TaskIdPath, runs: Runs) -> Why:
    """Say in one sentence why a task is not running, or is what it is."""
    return await runs.why(task_id)


@router.post("/{taskId}/cancel", responses=responses(404, 409, 422))
async def cancel_task(task_id: TaskIdPath, runs: Runs) -> TaskView:
    """End a task; an agent that works on it is told with its next heartbeat."""
    task = await runs.cancel_task(task_id)
    log.info("task_cancelled", task_id=task.task_id, session_id=task.session_id)
    return task


@router.post("/{taskId}/retry", responses=responses(404, 409, 422))
async def retry_task(task_id: TaskIdPath, runs: Runs) -> TaskView:
    """Try a task again that failed, and what comes after it."""
    task = await runs.retry_task(task_id)
    log.info("task_retried", task_id=task.task_id, session_id=task.session_id)
    return task


@router.post(
    "/{taskId}/result",
    responses=responses(404, 409, 413, 422),
    openapi_extra={"requestBody": request_body(TaskResult)},
)
async def end_task(
    task_id: TaskIdPath, request: Request, runs: Runs, asking: Asking, names: AgentNames
) -> TaskView:
    """Say how an attempt ended: with a result, or with an error. The same again is harmless.

    409 `superseded` for an attempt whose place another one has taken.
    """
    result = parse(_RESULT, await request.body())
    by = await _acting(task_id, runs, asking, names)
    run = await runs.finish(task_id, result, by=by)
    task = task_of(run, split_attempt_id(task_id)[0])
    log.info("task_result", task_id=task.task_id, state=task.state.value)
    return task


@router.post(
    "/{taskId}/progress",
    responses=responses(404, 409, 413, 422),
    openapi_extra={"requestBody": request_body(TaskProgress)},
)
async def progress_task(
    task_id: TaskIdPath, request: Request, runs: Runs, asking: Asking, names: AgentNames
) -> TaskView:
    """Say how far an attempt is. This starts it, too."""
    progress = parse(_PROGRESS, await request.body())
    by = await _acting(task_id, runs, asking, names)
    return await runs.progress(task_id, progress, by=by)


async def _acting(task_id: str, runs: Engine, asking: Access, names: Names) -> str | None:
    """Return the agent that the key acts for; None where it may act for everybody.

    Raises `Forbidden` where the task is, or was last, another agent's.
    """
    if asking.scope.names is None:
        return None
    task = await runs.task(split_attempt_id(task_id)[0])
    agent_id = task.assigned_agent_id
    asking.require_agent(("" if agent_id is None else await names.of(agent_id)) or "")
    return agent_id
