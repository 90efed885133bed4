"""Agents without our middleware, each with a habit of its own, as they are met in the field."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

__all__ = [
    "Habit",
    "RawAgent",
    "answers",
    "echoes",
    "echoes_nothing",
    "idles_at_acknowledgement",
    "speaks_at_the_end",
    "works_in_line",
]

Habit = Callable[["RawAgent", str | None], Awaitable[Response]]
"""Takes an attempt, does it, and answers."""


class RawAgent:
    """An ASGI app that takes tasks at any path and reports by hand, as AgentKit's SDK does.

    `attempts` are the ids of those that it was sent, as they came, `bodies` the whole messages;
    `working` holds up its work until it is set, `hung_up` is set when somebody does not wait for
    its answer.
    """

    def __init__(self, opscore_url: str, key: str, name: str, habit: Habit) -> None:
        self.name = name
        self.agent_id = ""
        self.attempts: list[str | None] = []
        self.bodies: list[dict[str, Any]] = []
        self.hung_up = asyncio.Event()
        self.working = asyncio.Event()
        self.working.set()
        self._habit = habit
        self._jobs: set[asyncio.Task[None]] = set()
        self._http = httpx.AsyncClient(
            base_url=opscore_url, headers={"Authorization": f"Bearer {key}"}, timeout=10
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        body = await Request(scope, receive).json()
        self.bodies.append(body)
        self.attempts.append(body["opscore_task_id"])
        leaving = asyncio.ensure_future(self._until_left(receive))
        try:
            response = await self._habit(self, body["opscore_task_id"])
        finally:
            leaving.cancel()
        await response(scope, receive, send)

    async def _until_left(self, receive: Receive) -> None:
        await receive()
        self.hung_up.set()

    async def register(self, url: str, *capabilities: str) -> str:
        """Make itself known to Ops-Core, free for tasks, and return its id."""
        answer = await self._http.post(
            "/v1/opscore/agents",
            json={
                "agentName": self.name,
                "capabilities": list(capabilities),
                "contactEndpoint": f"{url}/task",
            },
        )
        assert answer.status_code in {200, 201}, answer.text
        self.agent_id = answer.json()["agentId"]
        await self.report("idle")
        return self.agent_id

    async def report(self, state: str, attempt: str | None = None) -> None:
        """Report a state, and the attempt where it is to be named."""
        answer = await self._http.post(
            f"/v1/opscore/agent/{self.agent_id}/state",
            json={
                "agentId": self.agent_id,
                "timestamp": datetime.now(UTC).isoformat(),
                "state": state,
                "details": {} if attempt is None else {"opscore_task_id": attempt},
            },
        )
        assert answer.status_code == 202, answer.text

    def in_background(self, job: Awaitable[None]) -> None:
        """Go on with a job after the answer."""
        task = asyncio.ensure_future(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def close(self) -> None:
        """Drop all work."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self._http.aclose()


async def echoes(agent: RawAgent, attempt: str | None) -> Response:
    """Name the attempt as it begins and as it ends, the way AgentKit's SDK means it."""

    async def work() -> None:
        await agent.report("active", attempt)
        await agent.working.wait()
        await agent.report("idle", attempt)

    agent.in_background(work())
    return JSONResponse({}, 202)


async def works_in_line(agent: RawAgent, attempt: str | None) -> Response:
    """Answer when it is done."""
    await agent.report("active", attempt)
    await agent.working.wait()
    await agent.report("idle", attempt)
    return JSONResponse({}, 200)


async def idles_at_acknowledgement(agent: RawAgent, attempt: str | None) -> Response:
    """Say `idle` as soon as it has the attempt, and work on."""

    async def work() -> None:
        await agent.report("active", attempt)
        await agent.working.wait()
        await agent.report("idle", attempt)

    await agent.report("idle", attempt)
    agent.in_background(work())
    return JSONResponse({}, 202)


async def speaks_at_the_end(agent: RawAgent, attempt: str | None) -> Response:
    """Say nothing until it is over, then everything at once."""

    async def work() -> None:
        await agent.working.wait()
        await agent.report("active", attempt)
        await agent.report("idle", attempt)

    agent.in_background(work())
    return JSONResponse({}, 202)


async def echoes_nothing(agent: RawAgent, _attempt: str | None) -> Response:
    """Go active and idle, and never say for what."""

    async def work() -> None:
        await agent.report("active")
        await agent.working.wait()
        await agent.report("idle")

    agent.in_background(work())
    return JSONResponse({}, 202)


def answers(status: int, **headers: str) -> Habit:
    """Return the habit of refusing everything."""

    async def refuse(_agent: RawAgent, _attempt: str | None) -> Response:
        return JSONResponse({"detail": "not me"}, status, headers=headers)

    return refuse
