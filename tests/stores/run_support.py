"""Short ways to say what a store is told of workflows."""

from __future__ import annotations

from typing import Any, Protocol

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.runs.records import Advance, Run, Step, StoredWorkflow
from opscore_middleware.core.runs.store import RunStore
from opscore_middleware.core.runs.tasks import Task, TaskState
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.core.store import Store
from tests.stores.support import NOW, add, said

__all__ = [
    "DEFINITION",
    "WORKFLOW",
    "Everything",
    "advanced",
    "claimed",
    "ends",
    "given",
    "idle",
    "runs",
    "sets",
    "started",
    "task",
]

DEFINITION = '{"id":"w","name":"ü","tasks":[]}'
WORKFLOW = StoredWorkflow("w", 1, DEFINITION, NOW)


class Everything(Store, RunStore, Protocol):
    """A store that keeps runs too."""


def task(task_id: str = "t", *, session_id: str = "s", **fields: Any) -> Task:
    """A task that is ready since NOW for any agent that has the capability `c`."""
    values: dict[str, Any] = {
        "node": task_id,
        "item": None,
        "name": f"the task {task_id}",
        "state": TaskState.READY,
        "priority": 0,
        "pinned": None,
        "capability": None if fields.get("pinned") else "c",
        "parameters": None,
        "result": None,
        "error": None,
        "attempt": 0,
        "spent": 0,
        "ready_at": NOW,
        "start_within": 30 * SECOND,
        "deadline_at": None,
        "close_by": None,
        "agent_id": None,
        "instance_id": None,
        "route": None,
        "rerouted": False,
        "inferred": False,
        "progress": None,
        "progress_message": None,
        "created_at": NOW,
        "dispatched_at": None,
        "started_at": None,
        "ended_at": None,
        **fields,
    }
    return Task(task_id=task_id, session_id=session_id, **values)


def runs(*tasks: Task, session_id: str = "s", **fields: Any) -> Run:
    """A run of these tasks, started for agent `a`."""
    values: dict[str, Any] = {
        "agent_id": "a",
        "state": SessionState.STARTED,
        "result": None,
        "error": None,
        "initial_payload": None,
        "traceparent": None,
        "workflow": WORKFLOW,
        "created_at": NOW,
        "updated_at": NOW,
        "ended_at": None,
        **fields,
    }
    belonging = {t.task_id: t._replace(session_id=session_id) for t in tasks}
    return Run(session_id=session_id, tasks=belonging, **values)


async def given(store: Everything, *tasks: Task, session_id: str = "s", **fields: Any) -> Run:
    """Register the agent, unless it is known, and start a run of these tasks."""
    new = runs(*tasks, session_id=session_id, **fields)
    if await store.get_agent(new.agent_id) is None:
        await add(store, new.agent_id)
    await store.save_workflow("w", DEFINITION, now=NOW)
    run, _ = await store.start_run(new)
    return run


async def idle(
    store: Store,
    agent_id: str = "a",
    *instance_ids: str | None,
    at: int = 0,
    state: str = "idle",
    capabilities: tuple[str, ...] = ("c",),
) -> None:
    """Register an agent and let its instances (`i` unless told) report that they are idle."""
    await add(
        store, agent_id, capabilities=list(capabilities), contact_endpoint="http://agent/task"
    )
    await store.apply_reports(
        [
            said(state, agent_id=agent_id, instance_id=instance_id, at=at)
            for instance_id in instance_ids or ("i",)
        ]
    )


def sets(task_id: str = "t", **fields: Any) -> Step:
    """The step that changes fields of a task."""

    def step(run: Run) -> Run:
        changed = run.tasks[task_id]._replace(**fields)
        return run._replace(tasks={**run.tasks, task_id: changed})

    return step


def ends(task_id: str = "t", state: TaskState = TaskState.COMPLETED) -> Step:
    """The step that ends a task."""
    return sets(task_id, state=state, ended_at=NOW)


def started(task_id: str = "t", **fields: Any) -> Step:
    """The step that notes that an attempt has begun."""
    return sets(task_id, state=TaskState.RUNNING, started_at=NOW, **fields)


async def advanced(store: RunStore, step: Step, *, task_id: str = "t", now: int = NOW) -> Run:
    """Advance the run of a task by one step, and return it."""
    (run,) = await store.advance([Advance(step, task_id=task_id)], now=now)
    assert isinstance(run, Run)
    return run


async def claimed(
    store: RunStore, *, limit: int = 100, mark: Watermark | None = None, now: int = NOW
) -> dict[str, tuple[str | None, str | None]]:
    """Claim, and return who got what: the slot by the task's id."""
    claims = await store.claim(limit=limit, mark=mark, now=now)
    return {task.task_id: (task.agent_id, task.instance_id) for task, *_ in claims}
