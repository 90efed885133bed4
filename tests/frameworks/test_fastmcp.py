"""Background tasks of FastMCP, on the worker that its app starts."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastmcp import FastMCP
from fastmcp_tasks import TasksExtension
from starlette.testclient import TestClient

from opscore_middleware import AgentState
from tests.agent.support import ScriptedOpsCore, watched
from tests.frameworks.easel import EASEL, Easel
from tests.support.waiting import wait_until

VERSION = "2026-07-28"
ABOUT = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {
        "extensions": {"io.modelcontextprotocol/tasks": {}}
    },
}


def painter() -> Any:
    server: FastMCP[Any] = FastMCP("painter")
    server.add_extension(TasksExtension(url="memory://"))

    @server.tool(task=True)
    async def paint(what: str) -> str:
        return await anyio.to_thread.run_sync(EASEL.paint, what)

    return server.http_app()


def begin(client: TestClient, what: str) -> None:
    """Call the tool as a client does that takes a task for an answer."""
    params = {"name": "paint", "arguments": {"what": what}, "_meta": ABOUT}
    answer = client.post(
        "/mcp",
        headers={
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": VERSION,
            "MCP-Method": "tools/call",
            "MCP-Name": "paint",
        },
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
    )
    assert '"taskId"' in answer.text, answer.text


def test_a_tool_that_goes_on_after_its_call_is_work(
    easel: Easel, ops_core: ScriptedOpsCore
) -> None:
    agent = watched(painter(), ops_core)
    with TestClient(agent, base_url="http://127.0.0.1:8000") as client:
        begin(client, "wait")
        assert easel.has_begun.wait(30)
        client.get("/docs")  # so that the call is over
        assert agent.state is AgentState.ACTIVE
        easel.may_go_on.set()
        wait_until(lambda: agent.state is AgentState.IDLE)
    assert "error" not in ops_core.states


def test_a_tool_that_fails_after_its_call_is_a_failure(ops_core: ScriptedOpsCore) -> None:
    agent = watched(painter(), ops_core)
    with TestClient(agent, base_url="http://127.0.0.1:8000") as client:
        begin(client, "fail")
        wait_until(lambda: "error" in ops_core.states)
    (failed,) = [r["details"] for r in ops_core.reports if r["state"] == "error"]
    error = {"type": "ValueError", "message": "no ink", "where": "tool paint"}
    assert error.items() <= failed["error"].items()
