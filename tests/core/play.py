"""A run that tests take through its steps, without a store: what is claimed is claimed here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Run, StoredWorkflow, Word
from opscore_middleware.core.runs.steps.finishing import finished
from opscore_middleware.core.runs.steps.starting import begun
from opscore_middleware.core.runs.steps.words import heard, said_of
from opscore_middleware.core.runs.tasks import OPEN, Task, TaskState, attempt_id
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.core.workflows.validation import parse
from opscore_middleware.notations.expressions import JmesPath

__all__ = ["NOW", "Play", "one"]

NOW = 1_790_000_000 * SECOND


def one(task_id: str, **fields: Any) -> dict[str, Any]:
    """A task of a definition, for the capability `c`."""
    return {"taskId": task_id, "name": f"the {task_id}", "agentCapability": "c", **fields}


class Play:
    """A run of these tasks, its clock, and chance that always draws the most."""

    def __init__(
        self,
        *tasks: Mapping[str, Any],
        initial_payload: Mapping[str, Any] | None = None,
        run_at: int | None = None,
    ) -> None:
        self.now = NOW
        expressions = JmesPath()
        self.rules = Rules(expressions, uniform=lambda low, high: high)
        definition = parse({"id": "w", "name": "W", "tasks": list(tasks)}, expressions=expressions)
        text = definition.model_dump_json(by_alias=True, exclude_unset=True)
        self.run: Run = begun(
            StoredWorkflow("w", 1, text, NOW),
            rules=self.rules,
            session_id="s",
            agent_id="own",
            initial_payload=None if initial_payload is None else json.dumps(initial_payload),
            run_at=run_at,
            traceparent=None,
            base="t",
            now=NOW,
        )

    # --- what is done ----------------------------------------------------------------------------

    def step(self, step: Callable[..., Run], **values: Any) -> Run:
        """Take a step, now."""
        self.run = step(self.run, rules=self.rules, now=self.now, **values)
        return self.run

    def claim(self, node: str, item: int | None = None, *, instance_id: str = "") -> Task:
        """Give a ready task to agent `a`, as a store would."""
        task = self.task(node, item)
        assert task.state is TaskState.READY
        assert task.ready_at is not None
        assert task.ready_at <= self.now
        until = self.now + task.start_within
        return self.put(
            task._replace(
                state=TaskState.DISPATCHED,
                attempt=task.attempt + 1,
                agent_id="a",
                instance_id=instance_id,
                dispatched_at=self.now,
                route=None,
                rerouted=False,
                stopped=False,
                deadline_at=until if task.close_by is None else min(until, task.close_by),
            )
        )

    def put(self, task: Task) -> Task:
        """Have a task as it is given, and the session run."""
        self.run = self.run._replace(
            state=SessionState.RUNNING, tasks={**self.run.tasks, task.task_id: task}
        )
        return task

    def say(
        self,
        task: Task,
        state: str,
        *,
        agent_id: str = "a",
        instance_id: str = "",
        sequence: int | None = None,
        **details: Any,
    ) -> Task:
        """Have an agent report a state, and name an attempt."""
        text = json.dumps({"opscore_task_id": attempt_id(task), **details})
        word = Word(1, agent_id, instance_id, state, text, self.now, sequence)
        self.step(heard, word=word, said=said_of(text))
        return self.run.tasks[task.task_id]

    def finish(self, node: str, result: Any = None, *, item: int | None = None) -> Task:
        """Claim a task where it is not yet, and end it with a result."""
        task = self.task(node, item)
        if task.state not in OPEN:
            task = self.claim(node, item)
        return self._end(task, json.dumps(result), None)

    def fail(self, node: str, kind: str = "Broken", *, item: int | None = None) -> Task:
        """Claim a task where it is not yet, and end its attempt with an error."""
        task = self.task(node, item)
        if task.state not in OPEN:
            task = self.claim(node, item)
        return self._end(task, None, {"type": kind, "message": "It broke."})

    def fail_for_good(self, node: str, *, item: int | None = None) -> Task:
        """Fail a task until no attempt is left."""
        task = self.fail(node, item=item)
        while task.state is TaskState.READY:
            self.now = task.ready_at or self.now
            task = self.fail(node, item=item)
        return task

    def _end(self, task: Task, result: str | None, error: dict[str, Any] | None) -> Task:
        run = self.step(
            finished,
            task_id=task.task_id,
            attempt=task.attempt,
            result=result,
            error=error,
            by="a",
        )
        return run.tasks[task.task_id]

    # --- what is so ------------------------------------------------------------------------------

    def task(self, node: str, item: int | None = None) -> Task:
        """A node's own task, or that of one of its items."""
        return next(t for t in self.run.tasks.values() if t.node == node and t.item == item)

    def state(self, node: str, item: int | None = None) -> str:
        """The state of a task."""
        return self.task(node, item).state.value

    def states(self) -> dict[str, str]:
        """The states of all nodes."""
        return {t.node: t.state.value for t in self.run.tasks.values() if t.item is None}

    def parameters(self, node: str, item: int | None = None) -> Any:
        """What a task is given."""
        text = self.task(node, item).parameters
        return None if text is None else json.loads(text)

    def result(self) -> Any:
        """What the session came to."""
        return None if self.run.result is None else json.loads(self.run.result)

    def error(self, node: str | None = None) -> Any:
        """Why a task, or the session, failed."""
        text = self.run.error if node is None else self.task(node).error
        return None if text is None else json.loads(text)
