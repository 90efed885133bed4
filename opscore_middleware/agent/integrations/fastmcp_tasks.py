"""Background tasks of FastMCP: a tool that a worker runs after its call was answered."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from opscore_middleware.agent.integrations.protocol import OpenUnit
from opscore_middleware.agent.integrations.wrapping import require_version
from opscore_middleware.errors import ConfigurationError

__all__ = ["FastMCPTasks"]


class FastMCPTasks:
    """Opens a unit for each run of a tool by the worker in this process.

    It fails with what the tool raises, but for `MCPError`: that is an answer to the caller.
    """

    name = "fastmcp-tasks"
    module = "fastmcp_tasks.components"

    def attach(self, open_unit: OpenUnit) -> None:
        """Have each tool counted that is registered for the worker, as the app starts."""
        require_version("fastmcp-tasks", 4)
        components: Any = sys.modules[self.module]
        answer: Any = sys.modules["mcp.shared.exceptions"].MCPError
        guarded = components.reentrant_task_fn
        if tuple(inspect.signature(guarded).parameters) != ("fn", "tool_name"):
            raise ConfigurationError("its tools are registered for the worker in another way")

        def counted(fn: Callable[..., Any], tool_name: str) -> Any:
            @functools.wraps(fn)
            async def run(*args: Any, **more: Any) -> Any:
                with open_unit(f"tool {tool_name}"):
                    try:
                        return await fn(*args, **more)
                    except answer as raised:
                        refusal = raised
                raise refusal

            # Within what turns exceptions into results, so that they are seen here.
            return guarded(run, tool_name)

        components.reentrant_task_fn = counted
