"""Servers on the MCP Python SDK, and on FastMCP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastmcp import FastMCP
from mcp.server.mcpserver import MCPServer
from mcp_types.methods import SPEC_CLIENT_METHODS

from opscore_middleware.agent.rpc import is_work
from tests.agent.integrations.mcp_talk import call_tool
from tests.agent.support import ScriptedOpsCore, watched


async def draw(what: str) -> str:
    await asyncio.sleep(0)
    if what == "nothing":
        raise ValueError("no ink")
    return f"a {what}"


def with_mcp(session: bool) -> Any:
    server: MCPServer[Any] = MCPServer("tools")
    server.tool()(draw)
    return server.streamable_http_app(stateless_http=not session, json_response=True)


def with_fastmcp(session: bool) -> Any:
    server: FastMCP[Any] = FastMCP("tools", mask_error_details=True)
    server.tool(draw)
    return server.http_app(stateless_http=not session, json_response=True)


on_each = pytest.mark.parametrize("build", [with_mcp, with_fastmcp], ids=["mcp", "fastmcp"])
in_each = pytest.mark.parametrize("session", [False, True], ids=["stateless", "in a session"])


@on_each
@in_each
def test_a_call_of_a_tool_is_work_and_its_answer_the_result(
    build: Callable[[bool], Any], session: bool, ops_core: ScriptedOpsCore
) -> None:
    agent = watched(build(session), ops_core)
    result = call_tool(agent, "draw", what="line", task_id="t-1.1", session=session)
    assert result["content"][0]["text"] == "a line"
    end = ops_core.wait_for_end("t-1.1")
    assert end["opscore_task_state"] == "completed"
    assert end["opscore_task_result"]["result"] == result
    assert "error" not in ops_core.states


@on_each
@in_each
def test_a_tool_that_fails_is_one_failure_with_its_own_words(
    build: Callable[[bool], Any], session: bool, ops_core: ScriptedOpsCore
) -> None:
    agent = watched(build(session), ops_core)
    result = call_tool(agent, "draw", what="nothing", task_id="t-1.1", session=session)
    assert result["isError"]
    (failed,) = [r["details"] for r in ops_core.reports if r["state"] == "error"]
    error = {"type": "ValueError", "message": "no ink", "where": "tool draw"}
    assert error.items() <= failed["error"].items()
    assert failed["opscore_task_state"] == "failed"


@pytest.mark.parametrize(("name", "arguments"), [("paint", {"what": "line"}), ("draw", {})])
def test_the_callers_mistakes_are_no_failures_of_a_fastmcp_server(
    name: str, arguments: dict[str, Any], ops_core: ScriptedOpsCore
) -> None:
    agent = watched(with_fastmcp(session=False), ops_core)
    result = call_tool(agent, name, task_id="t-1.1", session=False, **arguments)
    assert result["isError"]
    assert "error" not in ops_core.states


@pytest.mark.parametrize("method", sorted(SPEC_CLIENT_METHODS))
def test_of_all_that_a_client_may_ask_for_the_tools_alone_are_work(method: str) -> None:
    """A subscription stays open for as long as the client does."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method}
    assert is_work(json.dumps(call).encode()) is (method == "tools/call")
