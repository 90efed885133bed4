"""What happens when time is up, or an instance is gone."""

from __future__ import annotations

from typing import Any

from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.steps.attempts import fail, open_attempt
from opscore_middleware.core.runs.steps.draft import Draft
from opscore_middleware.core.runs.tasks import ENDED, OPEN, Route, Task, TaskState
from opscore_middleware.core.workflows.definition import spelled

__all__ = ["lost", "timed_out"]


def timed_out(run: Run, *, rules: Rules, task_id: str, other_route: Route | None, now: int) -> Run:
    """Do what a deadline is for, if it has come.

    An attempt that nobody has begun is sent once more, by its other route where it has one; that
    needs no new attempt. Else it has failed, and so has a task whose own time is up.
    """
    task = run.tasks.get(task_id)
    if task is None or task.deadline_at is None or task.deadline_at > now or task.state in ENDED:
        return run
    draft = Draft(run, rules, now)
    if task.close_by is not None and task.close_by <= now:
        fail(draft, task, _closed(draft, task), final=True, stopped=task.state in OPEN)
    elif task.state is TaskState.RUNNING:
        limit = spelled(draft.node(task.node).start_to_close)
        error = _error("StartToCloseTimeout", f"It was not over {limit} after it was begun.")
        fail(draft, task, error, stopped=True)
    elif other_route is not None and not task.rerouted:
        until = now + task.start_within
        draft.change(
            task,
            route=other_route,
            rerouted=True,
            deadline_at=until if task.close_by is None else min(until, task.close_by),
        )
    else:
        fail(draft, task, _not_begun(task), stopped=True)
    return draft.done()


def lost(run: Run, *, rules: Rules, task_id: str, attempt: int, now: int) -> Run:
    """Take an attempt back whose instance is gone."""
    task = open_attempt(run.tasks, task_id, attempt)
    if task is None:
        return run
    draft = Draft(run, rules, now)
    which = f"instance {task.instance_id!r} of agent" if task.instance_id else "agent"
    error = _error("InstanceLost", f"The {which} {task.agent_id!r} has gone, and not ended it.")
    fail(draft, task, error, stopped=True)
    return draft.done()


def _closed(draft: Draft, task: Task) -> dict[str, Any]:
    limit = spelled(draft.node(task.node).schedule_to_close)
    error = _error("ScheduleToCloseTimeout", f"It was not over {limit} after it could begin.")
    if task.attempt == 0:
        error["message"] += " No agent was free to begin it."
    elif task.error is not None and task.state is TaskState.READY:
        error["message"] += " It was waiting for another attempt."
    return error


def _not_begun(task: Task) -> dict[str, Any]:
    return _error(
        "ScheduleToStartTimeout",
        f"Agent {task.agent_id!r} did not say in time that it had begun: no report named the "
        "attempt as opscore_task_id in its details.",
    )


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "message": message}
