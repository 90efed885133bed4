"""Values and servers that the tests of AgentKit share."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from opscore_middleware.core.clock import SECOND
from tests.support.waiting import wait_until

__all__ = [
    "AGENT",
    "NOTIFY",
    "NOW",
    "REGISTER",
    "SECRET",
    "SIGNED_AT",
    "Arrival",
    "Receiver",
    "details",
    "registered",
    "served",
]

SECRET: Final = "shared-with-agentkit"
SIGNED_AT: Final = "1795358656"
NOW: Final = 1795358656 * SECOND
NOTIFY: Final = "/v1/opscore/internal/agent/notify"
REGISTER: Final = "/v1/agents/register"
AGENT: Final = {
    "agentName": "agent-none",
    "capabilities": ["echo"],
    "version": "1.0",
    "contactEndpoint": "http://127.0.0.1:44551/task",
}


def details(**changes: Any) -> dict[str, Any]:
    """Return an agent as AgentKit's webhook describes it."""
    return {
        "agentId": "0f0e7b8e-0000-4000-8000-000000000001",
        "agentName": "agent-none",
        "capabilities": ["echo"],
        "version": "1.0",
        "contactEndpoint": "http://127.0.0.1:44551/task",
        "metadata": None,
        "registration_time": "2026-11-22T14:44:16.377149Z",
        **changes,
    }


@dataclass(frozen=True)
class Arrival:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An ASGI app that takes every POST and keeps it: an agent, or Ops-Core's webhook."""

    status: int = 200
    arrivals: list[Arrival] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        self.arrivals.append(Arrival(request.url.path, dict(request.headers), body))
        await JSONResponse({}, self.status)(scope, receive, send)

    def at(self, path: str) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.path == path]


@contextmanager
def served(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve `app` by uvicorn in a thread, on a free port unless told which; yield its address."""
    config = uvicorn.Config(app, loop="asyncio", ws="none", log_config=None, lifespan="auto")
    server = uvicorn.Server(config)
    with socket.create_server((host, port)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            wait_until(lambda: server.started, message="the server to start")
            yield f"http://{host}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
    assert not thread.is_alive()


async def registered(http: httpx.AsyncClient, **changes: Any) -> str:
    """Register `AGENT` with a simulated AgentKit and return its id."""
    answer = await http.post(REGISTER, json={**AGENT, **changes})
    assert answer.status_code == 201
    agent_id: str = answer.json()["data"]["agentId"]
    return agent_id
