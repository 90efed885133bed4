"""What a client of an MCP server says to it over HTTP."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

__all__ = ["call_tool"]

ACCEPT = {"Accept": "application/json, text/event-stream"}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


def call_tool(
    app: Any, name: str, *, task_id: str, session: bool, **arguments: Any
) -> dict[str, Any]:
    """Call a tool for a task of Ops-Core's, after saying hello where there is a session."""
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        headers = dict(ACCEPT)
        if session:
            hello = client.post("/mcp", headers=headers, json=HELLO)
            headers["mcp-session-id"] = hello.headers["mcp-session-id"]
            ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            client.post("/mcp", headers=headers, json=ready)
        answer = client.post(
            "/mcp",
            headers={**headers, "X-OpsCore-Task-Id": task_id},
            json={
                "jsonrpc": "2.0",
                "id": 2,
                "method": "tools/call",
                "params": {"name": name, "arguments": arguments},
            },
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["result"])
