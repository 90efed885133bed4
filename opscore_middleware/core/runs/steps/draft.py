"""A run while a step changes it: what was changed is copied, everything else stays as it was."""

from __future__ import annotations

from typing import Any, Final

from opscore_middleware.core.runs.plans import Node, Plan, Rules
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.tasks import OPEN, Task, TaskState, replaced
from opscore_middleware.core.sessions import TERMINAL, SessionState
from opscore_middleware.core.workflows.budget import Allowance

__all__ = ["LIVE", "Draft"]

LIVE: Final = OPEN | {TaskState.READY}
"""States of tasks for which something is still to come of itself."""


class Draft:
    """A run that one step works on.

    Args:
        run: as it was.
        rules: what it goes by.
        now: in microseconds since the Unix epoch.
    """

    __slots__ = ("_rows", "_tasks", "allowance", "now", "plan", "rules", "run", "starts_at")

    def __init__(self, run: Run, rules: Rules, now: int) -> None:
        self.run = run
        self.rules = rules
        self.now = now
        self.plan: Plan = rules.plan(run)
        self.starts_at = now
        self.allowance = Allowance()
        self._tasks: dict[str, Task] | None = None
        self._rows: dict[str, str] | None = None

    @property
    def tasks(self) -> dict[str, Task]:
        """All tasks by id, as they are by now."""
        return self.run.tasks if self._tasks is None else self._tasks

    @property
    def is_over(self) -> bool:
        """Whether the session has come to an end."""
        return self.run.state in TERMINAL

    @property
    def is_paused(self) -> bool:
        """Whether nothing of the session is given out for now."""
        return self.run.state is SessionState.PAUSED

    def put(self, task: Task) -> Task:
        """Have a task as it is given."""
        if self._tasks is None:
            self._tasks = dict(self.run.tasks)
        self._tasks[task.task_id] = task
        return task

    def change(self, task: Task, **values: Any) -> Task:
        """Have a task with these values."""
        return self.put(replaced(task, values))

    def node(self, name: str) -> Node:
        """Return a task of the definition."""
        return self.plan.nodes[name]

    def row(self, name: str) -> Task:
        """Return the task that is a node's own."""
        return self.tasks[self._row_ids()[name]]

    def rows(self) -> list[Task]:
        """Return the tasks that are nodes' own, in the order of the definition."""
        tasks = self.tasks
        return [tasks[task_id] for task_id in self._row_ids().values()]

    def items(self, name: str) -> list[Task]:
        """Return the tasks of a node's items, in their order."""
        if self.node(name).definition.for_each is None:
            return []
        return [t for t in self.tasks.values() if t.node == name and t.item is not None]

    def turn(
        self, state: SessionState, *, result: str | None = None, error: str | None = None
    ) -> None:
        """Have the session in another state."""
        self.run = self.run._replace(
            state=state,
            result=result,
            error=error,
            updated_at=self.now,
            ended_at=self.now if state in TERMINAL else None,
        )

    def done(self) -> Run:
        """Return the run as it is by now."""
        return self.run if self._tasks is None else self.run._replace(tasks=self._tasks)

    def _row_ids(self) -> dict[str, str]:
        if self._rows is None:
            rows: dict[str, str] = {}
            for task in self.run.tasks.values():
                if task.item is not None:
                    break  # items come after all nodes
                rows[task.node] = task.task_id
            self._rows = rows
        return self._rows
