"""Servers on FastMCP: what their tools do is the work."""

from __future__ import annotations

import sys
from typing import Any

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.integrations.protocol import OpenUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_method

__all__ = ["FastMCP"]


class FastMCP:
    """Opens a unit for each call of a tool of a `fastmcp.FastMCP`, its middleware included.

    It fails with what the tool raises. That there is no such tool, or that its arguments do not
    fit, is the caller's mistake.
    """

    name = "fastmcp"
    module = "fastmcp.server.server"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap the server's `call_tool`, which every call of a tool goes through."""
        require_version("fastmcp", 4)
        errors: Any = sys.modules["fastmcp.exceptions"]
        mistakes = (errors.NotFoundError, errors.ValidationError)

        async def call_tool(method: Any, server: Any, name: str, *args: Any, **more: Any) -> Any:
            with open_unit(f"tool {name}") as unit:
                try:
                    return await method(server, name, *args, **more)
                except mistakes as raised:
                    mistake = raised
                except errors.ToolError as raised:
                    cause = raised.__cause__ or raised  # it may have been masked for the caller
                    unit.fail(Failure(type(cause).__qualname__, str(cause)))
                    raise
            raise mistake

        server = sys.modules[self.module].FastMCP
        wrap_method(server, "call_tool", ("self", "name", "arguments"), call_tool)
