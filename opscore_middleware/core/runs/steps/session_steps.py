"""What people do to a run as a whole: they cancel it, pause it, have it go on."""

from __future__ import annotations

from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.refusals import session_over
from opscore_middleware.core.runs.steps.draft import Draft
from opscore_middleware.core.runs.steps.settling import cancelled
from opscore_middleware.core.runs.tasks import ENDED, TaskState
from opscore_middleware.core.sessions import SessionState

__all__ = ["cancel", "pause", "resume"]


def cancel(run: Run, *, rules: Rules, now: int) -> Run:
    """End a run and all its tasks; whoever works on one is told. Again, nothing changes.

    Raises `SessionEnded` where it has come to another end.
    """
    if run.state is SessionState.CANCELLED:
        return run
    draft = _draft(run, rules, now)
    for task in run.tasks.values():
        if task.state not in ENDED:
            cancelled(draft, task)
    draft.turn(SessionState.CANCELLED)
    return draft.done()


def pause(run: Run, *, rules: Rules, now: int) -> Run:
    """Give nothing of a run out any more; what is out goes on. Raises `SessionEnded`."""
    if run.state is SessionState.PAUSED:
        return run
    draft = _draft(run, rules, now)
    for task in run.tasks.values():
        if task.state is TaskState.READY:
            draft.change(task, deadline_at=None)
    draft.turn(SessionState.PAUSED)
    return draft.done()


def resume(run: Run, *, rules: Rules, now: int) -> Run:
    """Have a paused run go on; the pause counts against no task's time. Raises `SessionEnded`."""
    draft = _draft(run, rules, now)
    if run.state is not SessionState.PAUSED:
        return run
    paused_for = max(now - run.updated_at, 0)
    for task in run.tasks.values():
        if task.state is TaskState.READY and task.close_by is not None:
            close_by = task.close_by + paused_for
            draft.change(task, close_by=close_by, deadline_at=close_by)
    is_new = all(task.attempt == 0 for task in run.tasks.values())
    draft.turn(SessionState.STARTED if is_new else SessionState.RUNNING)
    return draft.done()


def _draft(run: Run, rules: Rules, now: int) -> Draft:
    draft = Draft(run, rules, now)
    if draft.is_over:
        raise session_over(run)
    return draft
