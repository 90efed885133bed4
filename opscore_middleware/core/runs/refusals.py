"""The words in which Ops-Core refuses what cannot be done with definitions, runs and tasks."""

from __future__ import annotations

from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.tasks import Task, attempt_id
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.errors import (
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    SessionEnded,
    SessionExists,
    Superseded,
    TaskEnded,
    TaskNotFound,
    WorkflowNotFound,
)

__all__ = [
    "attempt_over",
    "no_open_attempt",
    "not_its_attempt",
    "nothing_to_retry",
    "other_request",
    "other_session",
    "over",
    "runs_no_workflow",
    "session_not_failed",
    "session_over",
    "superseded",
    "unknown_task",
    "unknown_workflow",
]


def unknown_workflow(workflow_id: str, version: int | None = None) -> WorkflowNotFound:
    """Return the error for a definition that is not kept, or not in that version."""
    which = "" if version is None else f", version {version},"
    return WorkflowNotFound(
        f"No workflow with id {workflow_id!r}{which} is kept here; GET /v1/opscore/workflows lists "
        "the ones that are, POST /v1/opscore/workflows adds one.",
        workflow_id=workflow_id,
        **({} if version is None else {"version": version}),
    )


def other_session(session_id: str) -> SessionExists:
    """Return the error for a run whose id is that of a session without a workflow."""
    return SessionExists(
        f"Session {session_id!r} exists already, and runs no workflow; leave its id out to get a "
        "new one.",
        session_id=session_id,
    )


def other_request() -> IdempotencyMismatch:
    """Return the error for an `Idempotency-Key` that was used for something else."""
    return IdempotencyMismatch(
        "This Idempotency-Key was used for another request; repeat that one as it was, or send "
        "this one under a key of its own."
    )


def unknown_task(task_id: str) -> TaskNotFound:
    """Return the error for a task, or an attempt of one, that there never was."""
    return TaskNotFound(
        f"No task with id {task_id!r} was made here; GET /v1/opscore/tasks lists the ones that "
        "were.",
        task_id=task_id,
    )


def superseded(task: Task, attempt: int) -> Superseded:
    """Return the error for what somebody says about an attempt that another one has followed."""
    return Superseded(
        f"Attempt {task.task_id}.{attempt} is over: {attempt_id(task)} has taken its place. "
        "Nothing was changed; stop working on it.",
        task_id=task.task_id,
        attempt=attempt,
        latest=task.attempt,
    )


def attempt_over(task: Task) -> Superseded:
    """Return the error for what somebody says about an attempt that Ops-Core has given up on."""
    return Superseded(
        f"Attempt {attempt_id(task)} is over; the task is {task.state} and will be given out "
        "again. Nothing was changed.",
        task_id=task.task_id,
        attempt=task.attempt,
        state=task.state.value,
    )


def not_its_attempt(task: Task, agent_id: str) -> Forbidden:
    """Return the error for what an agent says about a task that it does not have."""
    return Forbidden(
        f"Task {task.task_id!r} is not with agent {agent_id!r}; only the agent that has it may "
        "speak of it.",
        task_id=task.task_id,
        agent_id=agent_id,
    )


def no_open_attempt(task: Task) -> Conflict:
    """Return the error for the end of a task that nobody works on."""
    return Conflict(
        f"Task {task.task_id!r} is {task.state}, and nobody works on it; only an attempt that was "
        "given out can end.",
        task_id=task.task_id,
        state=task.state.value,
    )


def over(task: Task) -> TaskEnded:
    """Return the error for a change of a task that has ended."""
    since = "" if task.ended_at is None else f" since {from_micros(task.ended_at)}"
    return TaskEnded(
        f"Task {task.task_id!r} is {task.state}{since}; what is over is not changed. A task that "
        "failed or was cancelled can be retried.",
        task_id=task.task_id,
        state=task.state.value,
    )


def nothing_to_retry(task: Task) -> Conflict:
    """Return the error for the retry of a task that has not failed."""
    return Conflict(
        f"Task {task.task_id!r} is {task.state}; only one that failed, was cancelled or waits for "
        "its next attempt can be retried.",
        task_id=task.task_id,
        state=task.state.value,
    )


def session_over(run: Run, *, hint: str | None = None) -> SessionEnded:
    """Return the error for a change of a run that has ended, and what can be done instead."""
    if hint is None and run.state is not SessionState.COMPLETED:
        hint = f"POST /v1/opscore/sessions/{run.session_id}/retry has it go on."
    since = "" if run.ended_at is None else f" since {from_micros(run.ended_at)}"
    return SessionEnded(
        f"Session {run.session_id!r} is {run.state}{since}; what is over is not changed. "
        f"{hint or 'Start a new session.'}",
        session_id=run.session_id,
        state=run.state.value,
    )


def session_not_failed(run: Run) -> Conflict:
    """Return the error for the retry of a run that goes on."""
    return Conflict(
        f"Session {run.session_id!r} is {run.state}; only one that failed or was cancelled can be "
        "retried. Single tasks of it can, with POST /v1/opscore/tasks/{taskId}/retry.",
        session_id=run.session_id,
        state=run.state.value,
    )


def runs_no_workflow(session_id: str) -> Conflict:
    """Return the error for the retry of a session that no workflow was started for."""
    return Conflict(
        f"Session {session_id!r} runs no workflow, so there is nothing to retry; start a new one.",
        session_id=session_id,
    )
