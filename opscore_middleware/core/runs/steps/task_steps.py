"""What people do to single tasks, and to those of a run that failed: cancel, and try again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.refusals import (
    nothing_to_retry,
    over,
    session_not_failed,
    session_over,
    unknown_task,
)
from opscore_middleware.core.runs.steps.draft import Draft
from opscore_middleware.core.runs.steps.settling import (
    Standing,
    cancelled,
    made_ready,
    settle,
    standing,
)
from opscore_middleware.core.runs.tasks import ENDED, Task, TaskState
from opscore_middleware.core.sessions import SessionState

__all__ = ["cancel_task", "retry_dead", "retry_session", "retry_task"]

_TO_RETRY: Final = frozenset({TaskState.FAILED, TaskState.CANCELLED})


def cancel_task(run: Run, *, rules: Rules, task_id: str, now: int) -> Run:
    """End a task, and all its items; its session fails where it cannot go on without it.

    Cancelling again changes nothing. Raises `TaskEnded` where the task has come to another end.
    """
    task = _task(run, task_id)
    if task.state is TaskState.CANCELLED:
        return run
    if task.state in ENDED:
        raise over(task)
    draft = Draft(run, rules, now)
    if task.item is None:
        for item in draft.items(task.node):
            if item.state not in ENDED:
                cancelled(draft, item)
    cancelled(draft, task)
    settle(draft, (task.node,))
    return draft.done()


def retry_task(run: Run, *, rules: Rules, task_id: str, now: int) -> Run:
    """Have a task done again that failed, was cancelled, or waits for its next attempt.

    Its attempts count anew. Where its session has ended for it, that goes on, with all that was
    cancelled at that end. Raises `Conflict` for other tasks, `SessionEnded` where the session was
    completed without it.
    """
    task = _task(run, task_id)
    draft = Draft(run, rules, now)
    if task.state is TaskState.READY and task.attempt > 0:
        draft.change(task, ready_at=now)
        return draft.done()
    if task.state not in _TO_RETRY:
        raise nothing_to_retry(task)
    if run.state is SessionState.COMPLETED:
        raise session_over(run, hint="It was completed without this task; start a new session.")
    names = {task.node}
    if draft.is_over:
        names |= {row.node for row in draft.rows() if row.state is TaskState.CANCELLED}
    row = draft.row(task.node)
    if row is not task and row.state not in _TO_RETRY:
        _fresh_item(draft, task)
        names.remove(task.node)
        if row.state is TaskState.COMPLETED:
            # It went on without the item, whose result belongs into its list.
            _fresh(draft, row, TaskState.RUNNING)
    _reopen(draft, names)
    return draft.done()


def retry_session(run: Run, *, rules: Rules, now: int) -> Run:
    """Have a run go on that failed or was cancelled: what was done stays, the rest is done.

    Raises `Conflict` for one that has not ended, `SessionEnded` for one that was completed.
    """
    if run.state is SessionState.COMPLETED:
        raise session_over(run)
    draft = Draft(run, rules, now)
    if not draft.is_over:
        raise session_not_failed(run)
    _reopen(draft, _unmet(draft))
    return draft.done()


def retry_dead(run: Run, *, rules: Rules, now: int) -> Run:
    """Have the tasks of a run done again without whose success it fails; nothing in others.

    What was cancelled by hand stays so, and so does what the session went on without.
    """
    draft = Draft(run, rules, now)
    if draft.is_over and run.state is not SessionState.FAILED:
        return run
    unmet = _unmet(draft)
    if any(draft.row(name).state is TaskState.FAILED for name in unmet):
        _reopen(draft, unmet)
    return draft.done()


def _unmet(draft: Draft) -> set[str]:
    """Return the nodes that a session has ended without."""
    return {
        row.node
        for row in draft.rows()
        if row.state is TaskState.CANCELLED
        or (row.state is TaskState.FAILED and not _passed_over(draft, row.node))
    }


def _passed_over(draft: Draft, name: str) -> bool:
    """Tell whether the session goes on without a node that failed, for itself or as a fallback."""
    if standing(draft, name) is Standing.WELL:
        return True
    ones = draft.node(name).stands_in_for
    return bool(ones) and all(
        draft.row(one).state is TaskState.FAILED and _passed_over(draft, one) for one in ones
    )


def _reopen(draft: Draft, names: Collection[str]) -> None:
    """Have these nodes done again, and the session go on."""
    if draft.is_over:
        draft.turn(SessionState.RUNNING)
    for name in names:
        row = draft.row(name)
        items = draft.items(name)
        for item in items:
            if item.state in _TO_RETRY:
                _fresh_item(draft, item)
        _fresh(draft, row, TaskState.RUNNING if items else TaskState.WAITING)
    waiting = [row.node for row in draft.rows() if row.state is TaskState.WAITING]
    settle(draft, [*names, *waiting])


def _fresh(draft: Draft, task: Task, state: TaskState) -> Task:
    return draft.change(
        task,
        state=state,
        result=None,
        error=None,
        spent=0,
        ready_at=None,
        deadline_at=None,
        close_by=None,
        inferred=False,
        progress=None,
        progress_message=None,
        started_at=draft.now if state is TaskState.RUNNING else None,
        ended_at=None,
    )


def _fresh_item(draft: Draft, item: Task) -> None:
    made_ready(draft, _fresh(draft, item, TaskState.WAITING), at=draft.now)


def _task(run: Run, task_id: str) -> Task:
    task = run.tasks.get(task_id)
    if task is None:
        raise unknown_task(task_id)
    return task
