"""The words in which Ops-Core refuses to start what is not known, or known as something else."""

from __future__ import annotations

from opscore_middleware.errors import IdempotencyMismatch, SessionExists, WorkflowNotFound

__all__ = ["other_request", "other_session", "unknown_workflow"]


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
