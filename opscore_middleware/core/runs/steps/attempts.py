"""The life of an attempt: it is begun, it ends well or not, and what comes after a failure."""

from __future__ import annotations

from typing import Any, Final

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.durations import LONGEST
from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.steps.draft import Draft
from opscore_middleware.core.runs.steps.filling import as_known_json
from opscore_middleware.core.runs.steps.settling import settle
from opscore_middleware.core.runs.tasks import OPEN, Task, TaskState
from opscore_middleware.core.workflows.definition import Retry

__all__ = [
    "FINAL_STATUSES",
    "LATER_STATUSES",
    "back_off",
    "begin",
    "complete",
    "fail",
    "open_attempt",
    "put_off",
]

LATER_STATUSES: Final = frozenset({429, 503})
"""HTTP statuses that mean "not now": no attempt is spent."""

_WORTH_RETRYING: Final = frozenset({408, 425, 429})
FINAL_STATUSES: Final = frozenset(range(400, 500)) - _WORTH_RETRYING
"""HTTP statuses that another attempt would get again."""

_MAX_EXPONENT: Final = 64


def open_attempt(tasks: dict[str, Task], task_id: str, attempt: int) -> Task | None:
    """Return the task whose open attempt this is; None where it is over, or was never one."""
    task = tasks.get(task_id)
    if task is None or task.attempt != attempt or task.state not in OPEN or task.agent_id is None:
        return None
    return task


def begin(draft: Draft, task: Task, *, instance_id: str | None, inferred: bool = False) -> Task:
    """Have an attempt that its agent works on; None for an instance leaves it where it is."""
    over_by = draft.now + draft.node(task.node).start_to_close
    close_by = task.close_by
    return draft.change(
        task,
        state=TaskState.RUNNING,
        instance_id=task.instance_id if instance_id is None else instance_id,
        inferred=inferred,
        started_at=draft.now,
        deadline_at=over_by if close_by is None or over_by < close_by else close_by,
    )


def complete(
    draft: Draft,
    task: Task,
    result: str | None,
    *,
    lost: dict[str, Any] | None = None,
    inferred: bool = False,
) -> None:
    """End a task well; `result` is JSON, `lost` says why there is none though there was."""
    draft.change(
        task,
        state=TaskState.COMPLETED,
        result=result,
        error=None if lost is None else as_known_json(lost),
        spent=task.spent + 1,
        ready_at=None,
        deadline_at=None,
        inferred=inferred,
        stopped=False,
        started_at=task.started_at or draft.now,
        ended_at=draft.now,
    )
    settle(draft, (task.node,))


def fail(
    draft: Draft,
    task: Task,
    error: dict[str, Any],
    *,
    final: bool = False,
    stopped: bool = False,
    inferred: bool = False,
) -> None:
    """End an attempt that failed: the task is tried again, or has failed.

    It has failed where the error is final or one that is not retried, where its attempts are
    spent, and where the next one could not begin before the task's time is up.
    """
    spent = task.spent + 1
    retry = draft.node(task.node).retry
    text = as_known_json(error)
    kept = {"error": text, "spent": spent, "stopped": stopped, "inferred": inferred}
    if not (final or spent >= retry.maximum_attempts or error.get("type") in retry.non_retryable):
        at = draft.now + back_off(retry, spent, draft.rules)
        if _again(draft, task, at, kept):
            return
    draft.change(
        task,
        state=TaskState.FAILED,
        ready_at=None,
        deadline_at=None,
        ended_at=draft.now,
        **kept,
    )
    settle(draft, (task.node,))


def put_off(draft: Draft, task: Task, error: dict[str, Any], *, retry_after: float | None) -> None:
    """Take an attempt back that the agent had no room for; it counts for nothing.

    `retry_after` is in seconds; without it, the time grows with each time that it is put off.
    """
    retry = draft.node(task.node).retry
    if retry_after is None:
        delay = back_off(retry, task.attempt - task.spent, draft.rules)
    else:
        # One that does not fit comes to the end of the task's time all the same.
        delay = round(min(max(retry_after, 0.0), LONGEST / SECOND) * SECOND)
    kept = {"error": as_known_json(error), "stopped": False, "inferred": False}
    if not _again(draft, task, draft.now + delay, kept):
        fail(draft, task, error, final=True)


def back_off(retry: Retry, failures: int, rules: Rules) -> int:
    """Return how long to wait after so many failures, in microseconds: full jitter under a cap."""
    exponent = min(max(failures - 1, 0), _MAX_EXPONENT)
    cap = min(
        float(retry.maximum_interval), retry.initial_interval * retry.backoff_coefficient**exponent
    )
    return round(rules.uniform(0.0, cap) if retry.jitter else cap)


def _again(draft: Draft, task: Task, at: int, kept: dict[str, Any]) -> bool:
    """Have a task that may be claimed again from a time on, if it can begin in time."""
    if task.close_by is not None and at >= task.close_by:
        return False
    draft.change(
        task,
        state=TaskState.READY,
        ready_at=at,
        deadline_at=None if draft.is_paused else task.close_by,
        started_at=None,
        progress=None,
        progress_message=None,
        rerouted=False,
        **kept,
    )
    return True
