"""What becomes of an attempt on its way to its agent."""

from __future__ import annotations

from typing import Any

from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.steps.attempts import fail, open_attempt, put_off
from opscore_middleware.core.runs.steps.draft import Draft
from opscore_middleware.core.runs.tasks import Route, TaskState

__all__ = ["not_sent", "sent"]


def sent(run: Run, *, task_id: str, attempt: int, route: Route) -> Run:
    """Note by which route an attempt went."""
    task = open_attempt(run.tasks, task_id, attempt)
    if task is None or task.route is route:
        return run
    return run._replace(tasks={**run.tasks, task_id: task._replace(route=route)})


def not_sent(
    run: Run,
    *,
    rules: Rules,
    task_id: str,
    attempt: int,
    error: dict[str, Any],
    final: bool,
    later: bool,
    retry_after: float | None,
    now: int,
) -> Run:
    """Take back an attempt that did not reach its agent, or that the agent refused.

    Once the agent has said that it works on it, its word counts and nothing else.
    """
    task = open_attempt(run.tasks, task_id, attempt)
    if task is None or task.state is not TaskState.DISPATCHED:
        return run
    draft = Draft(run, rules, now)
    if later:
        put_off(draft, task, error, retry_after=retry_after)
    else:
        fail(draft, task, error, final=final)
    return draft.done()
