"""The first step: a run is made, and what can begin at once does."""

from __future__ import annotations

from opscore_middleware.core.runs.plans import Node, Rules
from opscore_middleware.core.runs.records import Run, StoredWorkflow
from opscore_middleware.core.runs.steps.draft import Draft
from opscore_middleware.core.runs.steps.settling import settle
from opscore_middleware.core.runs.tasks import Task, TaskState
from opscore_middleware.core.sessions import SessionState

__all__ = ["begun"]


def begun(
    workflow: StoredWorkflow,
    *,
    rules: Rules,
    session_id: str,
    agent_id: str,
    initial_payload: str | None,
    traceparent: str | None,
    run_at: int | None,
    base: str,
    now: int,
) -> Run:
    """Return a new run, settled; nothing of it is given out before `run_at`.

    `base` is what the ids of its tasks begin with: unique, and without a dot.
    """
    plan = rules.plan_of(workflow)
    rows = [
        _row(node, session_id=session_id, agent_id=agent_id, base=base, now=now)
        for node in plan.nodes.values()
    ]
    run = Run(
        session_id=session_id,
        agent_id=agent_id,
        state=SessionState.STARTED,
        result=None,
        error=None,
        initial_payload=initial_payload,
        traceparent=traceparent,
        workflow=workflow,
        created_at=now,
        updated_at=now,
        ended_at=None,
        tasks={row.task_id: row for row in rows},
    )
    draft = Draft(run, rules, now)
    draft.starts_at = now if run_at is None else max(run_at, now)
    settle(draft, [node.name for node in plan.nodes.values() if not node.predecessors])
    return draft.done()


def _row(node: Node, *, session_id: str, agent_id: str, base: str, now: int) -> Task:
    task = node.definition
    pinned = task.agent_id
    if pinned is None and task.agent_capability is None:
        pinned = agent_id  # nobody else is named, so it is the session's own agent
    return Task(
        task_id=f"{base}-{node.place + 1}",
        session_id=session_id,
        node=node.name,
        item=None,
        name=task.name,
        state=TaskState.WAITING,
        priority=task.priority,
        pinned=pinned,
        capability=task.agent_capability,
        parameters=None,
        result=None,
        error=None,
        attempt=0,
        spent=0,
        ready_at=None,
        start_within=task.timeouts.schedule_to_start,
        deadline_at=None,
        close_by=None,
        agent_id=None,
        instance_id=None,
        route=None,
        rerouted=False,
        inferred=False,
        progress=None,
        progress_message=None,
        created_at=now,
        dispatched_at=None,
        started_at=None,
        ended_at=None,
    )
