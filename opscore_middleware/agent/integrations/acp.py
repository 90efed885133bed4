"""Agents on the ACP SDK: their runs are the work, whether or not a request waits for them."""

from __future__ import annotations

import sys
from typing import Any

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.integrations.protocol import OpenUnit, WorkUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_method

__all__ = ["ACP"]


class ACP:
    """Opens a unit for each run, and closes it while the run awaits an answer.

    It fails where the run does, which the SDK keeps to itself.
    """

    name = "acp"
    module = "acp_sdk.server.executor"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap where the executor runs an agent, and where such a run awaits an answer."""
        require_version("acp-sdk", 1)
        states: Any = sys.modules["acp_sdk.models"].RunStatus
        units: dict[Any, WorkUnit] = {}

        async def execute(method: Any, runner: Any, /, *args: Any, **more: Any) -> None:
            units[runner] = open_unit(f"agent {runner.agent.name}").__enter__()
            try:
                await method(runner, *args, **more)
            finally:
                unit, run = units.pop(runner), runner.run_data.run
                if run.status == states.FAILED:
                    unit.fail(Failure("ACP failed", run.error.message))
                elif run.status != states.COMPLETED:
                    unit.break_off()
                unit.__exit__(None, None, None)

        async def wait(method: Any, runner: Any) -> Any:
            units[runner].break_off()
            units[runner].__exit__(None, None, None)
            answer = await method(runner)
            units[runner] = open_unit(f"agent {runner.agent.name}").__enter__()
            return answer

        owner = sys.modules[self.module].Executor
        wrap_method(owner, "_execute", ("self", "input"), execute)
        wrap_method(owner, "_await", ("self",), wait)
