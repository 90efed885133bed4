"""Attempts as a store hands them out, and small servers that take them in their own ways."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.tasks import Route, Task, TaskState

__all__ = ["AgentServer", "Behaviour", "answering", "attempt", "endpoint", "listening_agent"]

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Goes on with a connection whose request has been read."""


def attempt(**changes: Any) -> Task:
    """Return a task whose first attempt has just been given out."""
    given = {
        "task_id": "task-1",
        "session_id": "session-1",
        "node": "step_1",
        "item": None,
        "name": "Summarise",
        "state": TaskState.DISPATCHED,
        "priority": 0,
        "pinned": None,
        "capability": "summarise",
        "parameters": '{"text":"long"}',
        "attempt": 1,
        "created_at": 0,
        "start_within": 30_000_000,
        "rerouted": False,
        "inferred": False,
        "spent": 0,
        "agent_id": "agent-1",
        "instance_id": "",
        "route": Route.DIRECT,
        **changes,
    }
    return Task(**{name: given.get(name, Task._field_defaults.get(name)) for name in Task._fields})


def endpoint(url: str | None, *, preferred: Route | None = None) -> Endpoint:
    """Return where the agent of an attempt is reached."""
    return Endpoint(agent_id="agent-1", instance_id="", url=url, preferred=preferred)


class AgentServer:
    """Reads requests and then behaves; `requests` are those that it has read."""

    def __init__(self, behave: Behaviour, scheme: str) -> None:
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.port = 0
        self.left = asyncio.Event()
        self._behave = behave
        self._scheme = scheme

    @property
    def url(self) -> str:
        """Where it takes tasks."""
        return f"{self._scheme}://127.0.0.1:{self.port}/task"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = [line.partition(": ") for line in head.split("\r\n")[1:-2]]
            headers = {name.lower(): value for name, _, value in lines}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append((headers, json.loads(body)))
            await self._behave(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.left.set()
            writer.close()


def answering(status: str, *headers: str, body: str = "") -> Behaviour:
    """Return what answers at once."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body.encode())}"]
        writer.write("\r\n".join([*lines, "", body]).encode())
        await writer.drain()

    return answer


@asynccontextmanager
async def listening_agent(
    behave: Behaviour, *, context: ssl.SSLContext | None = None
) -> AsyncIterator[AgentServer]:
    """Listen on a free port until the block ends, when all connections are cut."""
    agent = AgentServer(behave, "http" if context is None else "https")
    connections: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.ensure_future(agent.serve(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    agent.port = server.sockets[0].getsockname()[1]
    try:
        yield agent
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
