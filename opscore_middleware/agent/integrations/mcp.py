"""Servers on the MCP Python SDK: what its tools do is the work."""

from __future__ import annotations

import sys
from typing import Any

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.integrations.protocol import OpenUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_method

__all__ = ["MCP"]


class MCP:
    """Opens a unit for each call of a tool of an `MCPServer`.

    It fails with what the tool raises, but for `MCPError`: that is an answer to the caller.
    """

    name = "mcp"
    module = "mcp.server.mcpserver.tools.tool_manager"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap the tool manager's `call_tool`, which every call of a tool goes through."""
        require_version("mcp", 2)
        answer: Any = sys.modules["mcp.shared.exceptions"].MCPError
        unexpected: Any = sys.modules["mcp.server.mcpserver.exceptions"].UnexpectedToolError

        async def call_tool(method: Any, manager: Any, name: str, *args: Any, **more: Any) -> Any:
            with open_unit(f"tool {name}") as unit:
                try:
                    return await method(manager, name, *args, **more)
                except answer as raised:
                    refusal = raised
                except unexpected as raised:
                    # What the caller is told says only that there was something.
                    unit.fail(Failure(type(raised.__cause__).__qualname__, str(raised.__cause__)))
                    raise
            raise refusal

        manager = sys.modules[self.module].ToolManager
        wrap_method(manager, "call_tool", ("self", "name", "arguments", "context"), call_tool)
