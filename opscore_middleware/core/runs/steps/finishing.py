"""How an attempt ends or goes on by what somebody posts about it, and what they are answered."""

from __future__ import annotations

from typing import Any

from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.refusals import (
    attempt_over,
    no_open_attempt,
    not_its_attempt,
    over,
    superseded,
    unknown_task,
)
from opscore_middleware.core.runs.steps.attempts import begin, complete, fail
from opscore_middleware.core.runs.steps.draft import Draft
from opscore_middleware.core.runs.steps.filling import as_known_json
from opscore_middleware.core.runs.tasks import ENDED, OPEN, Task, TaskState

__all__ = ["finished", "progressed"]


def finished(
    run: Run,
    *,
    rules: Rules,
    task_id: str,
    attempt: int | None,
    result: str | None,
    error: dict[str, Any] | None,
    by: str | None,
    now: int,
) -> Run:
    """End an attempt with a result, or with an error; saying the same again changes nothing.

    A result counts, too, for the latest attempt after Ops-Core has given up on it, as long as no
    other was given out: the work is done, and nobody has to do it again. `by` is the agent that
    says so, None for somebody who may speak for all. Raises what `_addressed` does.
    """
    task = _addressed(run, task_id, attempt, by)
    is_late = task.state is TaskState.READY and attempt is not None and task.attempt == attempt > 0
    if task.state in ENDED or is_late:
        if _is_said(task, result, error):
            return run
        if not is_late:
            raise over(task)
        if error is not None:
            raise attempt_over(task)
    elif task.state not in OPEN or task.agent_id is None:
        raise no_open_attempt(task)
    draft = Draft(run, rules, now)
    if error is None:
        complete(draft, task, result)
    else:
        fail(draft, task, error)
    return draft.done()


def progressed(
    run: Run,
    *,
    rules: Rules,
    task_id: str,
    attempt: int | None,
    progress: float,
    message: str | None,
    by: str | None,
    now: int,
) -> Run:
    """Note how far an attempt is; whoever gets on has begun. Raises as `finished` does."""
    task = _addressed(run, task_id, attempt, by)
    if task.state in ENDED:
        raise over(task)
    if task.state not in OPEN or task.agent_id is None:
        raise attempt_over(task) if task.attempt else no_open_attempt(task)
    draft = Draft(run, rules, now)
    if task.state is TaskState.DISPATCHED:
        task = begin(draft, task, instance_id=None)
    draft.change(task, progress=progress, progress_message=message)
    return draft.done()


def _addressed(run: Run, task_id: str, attempt: int | None, by: str | None) -> Task:
    """Return the task whose latest attempt is meant.

    Raises `TaskNotFound`, `Superseded` for an earlier attempt, `Forbidden` for the attempt of
    another agent.
    """
    task = run.tasks.get(task_id)
    if task is None or (attempt is not None and not 0 < attempt <= task.attempt):
        raise unknown_task(task_id if attempt is None else f"{task_id}.{attempt}")
    if attempt is not None and attempt < task.attempt:
        raise superseded(task, attempt)
    if by is not None and task.agent_id != by:
        raise not_its_attempt(task, by)
    return task


def _is_said(task: Task, result: str | None, error: dict[str, Any] | None) -> bool:
    """Tell whether the task has come to just this already."""
    if error is not None:
        return task.state is not TaskState.COMPLETED and task.error == as_known_json(error)
    return task.state is TaskState.COMPLETED and task.result == result
