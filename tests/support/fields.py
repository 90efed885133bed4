"""An Ops-Core, and around it the agents that are met in the field, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from opscore_middleware.agentkit import AsyncAgentKit
from opscore_middleware.client import AsyncOpsCoreClient
from opscore_middleware.core.models import Registration
from opscore_middleware.core.runs.tasks import TaskState
from opscore_middleware.core.runs.views import TaskQuery, TaskView, WorkflowStart
from tests.support.raw_agents import Habit, RawAgent
from tests.support.waiting import wait_until_async

__all__ = ["Field"]


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve `app` in this loop, on a free port."""
    config = uvicorn.Config(app, ws="none", log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.ensure_future(server._serve([listener]))
        try:
            await wait_until_async(lambda: server.started, message="the agent to listen")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.force_exit = server.should_exit = True
            await running


class Field:
    """An Ops-Core, and the agents around it, which all have one capability."""

    def __init__(
        self, url: str, key: str, stack: AsyncExitStack, *, capability: str = "work"
    ) -> None:
        self.url = url
        self.client = AsyncOpsCoreClient(url, key)
        self._key = key
        self._stack = stack
        self._capability = capability

    async def join(
        self, habit: Habit, name: str = "worker", *, kit: AsyncAgentKit | None = None
    ) -> RawAgent:
        """Have an agent with a habit come in."""
        agent = RawAgent(self.url, self._key, name, habit)
        url = await self._stack.enter_async_context(serving(agent))
        self._stack.push_async_callback(agent.close)
        if kit is None:
            await agent.register(url, self._capability)
        else:
            agent.agent_id = await kit.register(
                Registration(
                    agent_name=name,
                    version="1",
                    capabilities=[self._capability],
                    contact_endpoint=f"{url}/task",
                )
            )
            await wait_until_async(lambda: self._knows(agent.agent_id))
            await agent.report("idle")
        return agent

    async def start(self, agent: RawAgent, **task: Any) -> str:
        """Start a workflow of one task, and return its session's id."""
        definition = {
            "id": "wf",
            "name": "One step",
            "tasks": [
                {
                    "taskId": "only",
                    "name": "Work",
                    "agentCapability": self._capability,
                    **task,
                }
            ],
        }
        started = await self.client.start_workflow(
            agent.agent_id, WorkflowStart(workflow_definition=definition)
        )
        return started.session_id

    async def task(self, session_id: str) -> TaskView:
        """Return the session's task."""
        (task,) = (await self.client.list_tasks(TaskQuery(session_id=session_id))).items
        return task

    async def until(self, session_id: str, *states: TaskState) -> TaskView:
        """Wait until the session's task is in one of these states, and return it."""

        async def found() -> TaskView | None:
            task = await self.task(session_id)
            return task if task.state in states else None

        task = await wait_until_async(found, message=f"the task to be {states}")
        assert task is not None
        return task

    async def _knows(self, agent_id: str) -> bool:
        return any(a.agent_id == agent_id for a in (await self.client.list_agents()).items)
