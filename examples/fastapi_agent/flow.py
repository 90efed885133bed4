"""A workflow, followed task by task while agents work on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from opscore_middleware.client import AsyncOpsCoreClient
from opscore_middleware.core.runs.tasks import TaskState
from opscore_middleware.core.runs.views import SessionView, TaskQuery, TaskView, WorkflowStart
from opscore_middleware.core.sessions import TERMINAL, SessionState

__all__ = ["Flow", "OtherEnd"]

_LOOK: Final = 0.03
_SHOWN: Final = frozenset({TaskState.RUNNING, TaskState.COMPLETED, TaskState.FAILED})


class OtherEnd(Exception):
    """The workflow has ended otherwise than it should have, or not at all."""


class Flow:
    """One run of a workflow.

    Args:
        ops_core: where to start it, and to ask.
        changed: called with each task that is begun, completed or failed.
    """

    def __init__(self, ops_core: AsyncOpsCoreClient, changed: Callable[[TaskView], None]) -> None:
        self._ops_core = ops_core
        self._changed = changed
        self._states: dict[str, tuple[TaskState, int]] = {}
        self.tasks: list[TaskView] = []

    async def run(self, definition: dict[str, Any], agent_id: str, *, within: float) -> SessionView:
        """Start a workflow for an agent and follow it to its end.

        Raises `OtherEnd` when it is not over after `within` seconds, or was not completed.
        """
        await self._ops_core.put_workflow(definition)
        start = WorkflowStart(workflow_definition_id=definition["id"])
        started = await self._ops_core.start_workflow(agent_id, start)
        try:
            async with asyncio.timeout(within):
                session = await self._follow(started.session_id)
        except TimeoutError:
            raise OtherEnd(
                f"The workflow was not over after {within:g} s: {self._tally()}"
            ) from None
        if session.state is not SessionState.COMPLETED:
            raise OtherEnd(f"The workflow has {session.state.value}: {session.error}")
        return session

    def went(self, *, failed: set[str], shared: dict[str, int]) -> None:
        """Raise `OtherEnd` unless just these nodes failed, and so many agents shared others."""
        others = {t.node for t in self.tasks if t.state is TaskState.FAILED} ^ failed
        if others:
            raise OtherEnd(f"Other tasks have failed than {failed}: {others}; {self._tally()}")
        for node, count in shared.items():
            agents = {t.assigned_agent_id for t in self.tasks if t.node == node and t.attempt}
            if len(agents) != count:
                raise OtherEnd(f"{len(agents)} agents have worked on {node!r}, not {count}")

    async def _follow(self, session_id: str) -> SessionView:
        while True:
            session = await self._ops_core.get_session(session_id)
            await self._look(session_id)
            if session.state in TERMINAL:
                return session
            await asyncio.sleep(_LOOK)

    async def _look(self, session_id: str) -> None:
        page = await self._ops_core.list_tasks(TaskQuery(session_id=session_id, limit=1000))
        self.tasks = page.items
        for task in sorted(page.items, key=lambda t: t.ended_at or t.started_at or t.created_at):
            seen = (task.state, task.attempt)
            if self._states.get(task.task_id) != seen and task.state in _SHOWN and task.attempt:
                self._changed(task)
            self._states[task.task_id] = seen

    def _tally(self) -> str:
        counted = Counter(task.state.value for task in self.tasks)
        return (
            ", ".join(f"{count} {state}" for state, count in sorted(counted.items())) or "no task"
        )
