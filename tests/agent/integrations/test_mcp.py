"""Servers on the MCP Python SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from starlette.testclient import TestClient

from tests.agent.support import ScriptedOpsCore, watched

LIFE = ["initializing", "idle"]
HEADERS = {"Accept": "application/json, text/event-stream", "X-OpsCore-Task-Id": "t-1.1"}


def tools() -> MCPServer[Any]:
    server = MCPServer("tools")

    @server.tool()
    async def draw(what: str) -> str:
        await asyncio.sleep(0)
        if what == "nothing":
            raise ValueError("no ink")
        return f"a {what}"

    return server


def talk(app: Any, what: str, *, stateless: bool) -> dict[str, Any]:
    """Call the tool as a client would, after saying hello where there is a session."""
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        headers = dict(HEADERS)
        if not stateless:
            hello = client.post(
                "/mcp",
                headers={"Accept": HEADERS["Accept"]},
                json={
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "initialize",
                    "params": {
                        "protocolVersion": "2025-06-18",
                        "capabilities": {},
                        "clientInfo": {"name": "t", "version": "1"},
                    },
                },
            )
            headers["mcp-session-id"] = hello.headers["mcp-session-id"]
            client.post(
                "/mcp",
                headers={**headers, "X-OpsCore-Task-Id": ""},
                json={"jsonrpc": "2.0", "method": "notifications/initialized"},
            )
        answer = client.post(
            "/mcp",
            headers=headers,
            json={
                "jsonrpc": "2.0",
                "id": 2,
                "method": "tools/call",
                "params": {"name": "draw", "arguments": {"what": what}},
            },
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["result"])


@pytest.mark.parametrize("stateless", [True, False], ids=["stateless", "in a session"])
def test_a_call_of_a_tool_is_work_and_its_answer_the_result(
    stateless: bool, ops_core: ScriptedOpsCore
) -> None:
    app = tools().streamable_http_app(stateless_http=stateless, json_response=True)
    result = talk(watched(app, ops_core), "line", stateless=stateless)
    assert result["content"][0]["text"] == "a line"
    end = ops_core.wait_for_end("t-1.1")
    assert end["opscore_task_state"] == "completed"
    assert end["opscore_task_result"]["result"] == result
    assert "error" not in ops_core.states


@pytest.mark.parametrize("stateless", [True, False], ids=["stateless", "in a session"])
def test_a_tool_that_fails_is_one_failure(stateless: bool, ops_core: ScriptedOpsCore) -> None:
    app = tools().streamable_http_app(stateless_http=stateless, json_response=True)
    assert talk(watched(app, ops_core), "nothing", stateless=stateless)["isError"]
    (failed,) = [r["details"] for r in ops_core.reports if r["state"] == "error"]
    error = {"type": "ValueError", "message": "no ink", "where": "tool draw"}
    assert failed["error"] == error
    assert failed["opscore_task_state"] == "failed"
