"""Tasks as Ops-Core sends them, and agents that take them."""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette

from opscore_middleware import OpsCoreMiddleware, TaskRouter
from tests.agent.exchange import JSON, Exchange
from tests.agent.support import ScriptedOpsCore, watched

__all__ = ["agent_with", "answered", "forwarded", "send"]


def forwarded(
    name: str | None = "summarise", task_id: str | None = "t-1.1", **payload: Any
) -> bytes:
    """Return a task as AgentKit forwards it."""
    message = {
        "senderId": "opscore_system_id",
        "timestamp": "2026-11-22T14:44:19.999885Z",
        "messageType": "workflow_task",
        "payload": payload,
        "sessionContext": {"sessionId": "s-1", "priorMessages": []},
        "task_name": name,
        "opscore_session_id": "s-1",
        "opscore_task_id": task_id,
    }
    return json.dumps(message).encode()


def agent_with(tasks: TaskRouter, ops_core: ScriptedOpsCore, **settings: Any) -> OpsCoreMiddleware:
    """Return an agent that takes tasks at `/task`."""
    return watched(Starlette(routes=[tasks.route("/task")]), ops_core, **settings)


async def send(app: Any, body: bytes, *headers: tuple[bytes, bytes]) -> Exchange:
    """Send it a body as a task; what the app raises is raised here too."""
    return await Exchange(body, path="/task", headers=(*JSON, *headers)).run(app)


def answered(exchange: Exchange) -> tuple[int, Any]:
    """Return what was answered: the status and the parsed body."""
    return exchange.status, json.loads(exchange.body)
