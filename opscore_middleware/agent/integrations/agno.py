"""AgentOS of Agno: its background runs are the work, not the requests that start them."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any, Final

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.integrations.protocol import OpenUnit, WorkUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_method

__all__ = ["Agno"]

_IN_BACKGROUND: Final[ContextVar[bool]] = ContextVar("opscore_middleware_agno", default=False)


class Agno:
    """Opens a unit for each background run of an agent, team or workflow, once it has a slot.

    It fails where the run does, which Agno keeps to itself. Runs in the foreground, and workflows
    that stream, are requests like any others.
    """

    name = "agno"
    module = "agno.run.background"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap what executes background runs, which for workflows is something of their own."""
        require_version("agno", 3)
        stopped: Any = sys.modules["agno.exceptions"].RunCancelledException

        async def background(
            method: Any, run: Any, execute: Any, /, *args: Any, **more: Any
        ) -> None:
            async def counted() -> None:
                with open_unit(_called(run)) as unit:
                    try:
                        await execute()
                    except stopped:
                        unit.break_off()
                        raise
                    _look(unit, run)

            await method(run, counted, *args, **more)

        wrap_method(sys.modules[self.module], "_execute_background", ("run", "execute"), background)
        workflows = sys.modules.get("agno.workflow.workflow")
        if workflows is not None:
            _attach_to_workflows(workflows.Workflow, open_unit)


def _attach_to_workflows(workflow: Any, open_unit: OpenUnit) -> None:
    async def start(method: Any, flow: Any, /, *args: Any, **more: Any) -> Any:
        token = _IN_BACKGROUND.set(True)  # for the task that it starts, which inherits it
        try:
            return await method(flow, *args, **more)
        finally:
            _IN_BACKGROUND.reset(token)

    async def execute(method: Any, flow: Any, /, *args: Any, **more: Any) -> Any:
        if not _IN_BACKGROUND.get():
            return await method(flow, *args, **more)
        with open_unit(f"workflow {flow.name or flow.id}") as unit:
            run = await method(flow, *args, **more)
            _look(unit, run)
            return run

    wrap_method(workflow, "_arun_background", ("self", "input"), start)
    wrap_method(workflow, "_aexecute", ("self", "session_id"), execute)


def _called(run: Any) -> str:
    for kind in ("agent", "team"):
        name = getattr(run, f"{kind}_name", None) or getattr(run, f"{kind}_id", None)
        if name:
            return f"{kind} {name}"
    return "background run"


def _look(unit: WorkUnit, run: Any) -> None:
    """Tell a unit how its run has ended, by the run's own word."""
    status = str(getattr(run.status, "value", run.status))
    if status == "ERROR":
        unit.fail(Failure("agno ERROR", str(run.content or "no message given")))
    elif status in ("CANCELLED", "PAUSED"):
        unit.break_off()
