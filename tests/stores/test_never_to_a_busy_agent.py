"""Agents that others use as well are given no task while Ops-Core knows that they are busy.

Everything runs in this process and on one clock; the agents report as our middleware does. A task
may still meet a stranger's request, in the moment between the decision and the arrival: that is
counted and printed, not forbidden.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import httpx
import pytest

from opscore_middleware.core.clock import from_micros, system_clock
from opscore_middleware.core.models import Registration, StateReport
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.tasks import TaskState, split_attempt_id
from opscore_middleware.core.runs.views import TaskQuery, WorkflowStart
from opscore_middleware.core.workflows.validation import parse
from opscore_middleware.notations.expressions import JmesPath
from opscore_middleware.server import loops
from opscore_middleware.server.dispatch.dispatcher import Dispatcher
from opscore_middleware.server.dispatch.sending import Sender
from opscore_middleware.server.dispatch.tally import Tally
from tests.stores.run_support import Everything
from tests.support.waiting import wait_until_async

AGENTS: Final = 20
BUSY: Final = "active"


class SharedAgent:
    """An agent that works for Ops-Core and for strangers, one thing after the other.

    `busy` are the times from when Ops-Core held a report that it was at work for a stranger until
    it began to say that it is not, in microseconds.
    """

    def __init__(self, number: int, opscore: OpsCore) -> None:
        self.agent_id = f"agent-{number}"
        self.busy: list[tuple[int, int]] = []
        self.is_with_a_stranger = False
        self.met_a_stranger = 0
        self._opscore = opscore
        self._sequence = 0
        self._turn = asyncio.Lock()
        self._said = asyncio.Lock()

    async def say(self, state: str, **details: Any) -> int:
        """Report a state; return when Ops-Core held it."""
        async with self._said:
            self._sequence += 1
            now = from_micros(system_clock())
            report = StateReport(
                agent_id=self.agent_id,
                timestamp=now,
                state=state,
                instance_id=f"{self.agent_id}-1",
                sequence=self._sequence,
                details=details or None,
            )
            await self._opscore.report(self.agent_id, report)
            return system_clock()

    async def serve(self, attempt: str) -> None:
        """Do a task, once a stranger's request that came before it is done."""
        self.met_a_stranger += self.is_with_a_stranger
        async with self._turn:
            await self.say(BUSY, opscore_task_id=attempt)
            await asyncio.sleep(0)
            await self.say("idle", opscore_task_id=attempt, opscore_task_state="completed")

    async def serve_strangers(self, chance: random.Random) -> None:
        """Be used by others now and then, for ever."""
        while True:
            for _ in range(chance.randrange(200)):
                await asyncio.sleep(0)
            async with self._turn:
                self.is_with_a_stranger = True
                held = await self.say(BUSY)
                for _ in range(chance.randrange(200)):
                    await asyncio.sleep(0)
                self.busy.append((held, system_clock()))
                self.is_with_a_stranger = False
                await self.say("idle")


class ToAgents(httpx.AsyncBaseTransport):
    """Hands each attempt to the agent that its address names; `sent` are those, with the time."""

    def __init__(self, agents: dict[str, SharedAgent]) -> None:
        self.sent: list[tuple[str, str, int]] = []
        self._agents = agents
        self._working: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        agent = self._agents[request.url.host]
        attempt = request.headers["x-opscore-task-id"]
        self.sent.append((attempt, agent.agent_id, system_clock()))
        work = asyncio.ensure_future(agent.serve(attempt))
        self._working.add(work)
        work.add_done_callback(self._working.discard)
        return httpx.Response(202)


@asynccontextmanager
async def dispatching(opscore: OpsCore, engine: Engine, transport: ToAgents) -> AsyncIterator[None]:
    sender = Sender(transport, agentkit=None, clock=system_clock)
    dispatcher = Dispatcher(
        engine, sender, agentkit=False, most=100, tally=Tally(), clock=system_clock
    )
    every = {"watch": loops.watch(opscore), **dispatcher.loops()}
    async with loops.running(every, asyncio.sleep):
        yield
        await dispatcher.close()
    await sender.close()


async def sent_to_busy_agents(store: Everything, tasks: int) -> int:
    """Do so many tasks; return how many were given to an agent that was known to be busy."""
    opscore = OpsCore(store)
    expressions = JmesPath()
    engine = Engine(
        store,
        clock=system_clock,
        mark=lambda: opscore.mark,
        parse=partial(parse, expressions=expressions),
        expressions=expressions,
    )
    agents = {f"agent-{n}": SharedAgent(n, opscore) for n in range(AGENTS)}
    for agent in agents.values():
        await opscore.register(
            Registration(
                agent_id=agent.agent_id,
                agent_name=agent.agent_id,
                capabilities=["work"],
                contact_endpoint=f"http://{agent.agent_id}/task",
            )
        )
        await agent.say("idle")
    transport = ToAgents(agents)
    strangers = [
        asyncio.ensure_future(agent.serve_strangers(random.Random(seed)))
        for seed, agent in enumerate(agents.values())
    ]
    try:
        async with dispatching(opscore, engine, transport):
            await do(tasks, engine)
    finally:
        for stranger in strangers:
            stranger.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)
    given_out = {task.task_id: task for task in await store.list_tasks(**everything(tasks))}
    met = sum(agent.met_a_stranger for agent in agents.values())
    print(f"{len(transport.sent)} attempts, {met} met a stranger's request on arrival")
    wrong = 0
    for attempt, agent_id, arrived in transport.sent:
        decided = given_out[split_attempt_id(attempt)[0]].dispatched_at
        assert decided is not None
        wrong += any(held < decided and arrived < over for held, over in agents[agent_id].busy)
    return wrong


def everything(limit: int) -> dict[str, Any]:
    none = ("session_id", "state", "agent_id", "capability", "after")
    return {**dict.fromkeys(none), "limit": limit}


async def do(tasks: int, engine: Engine) -> None:
    at_once = min(tasks, 100)
    work = [{"taskId": f"t{n}", "name": "Work", "agentCapability": "work"} for n in range(at_once)]
    await engine.save_workflow({"id": "work", "name": "Work", "tasks": work})
    for _ in range(tasks // at_once):
        await engine.start("agent-0", WorkflowStart(workflow_definition_id="work"))

    async def all_done() -> bool:
        for state in (TaskState.READY, TaskState.DISPATCHED, TaskState.RUNNING):
            if (await engine.tasks(TaskQuery(state=state, limit=1))).items:
                return False
        return True

    await wait_until_async(all_done, timeout=100 + tasks / 10, message="all tasks to be done")
    completed = (await engine.tasks(TaskQuery(state=TaskState.COMPLETED, limit=1000))).items
    assert len(completed) == min(tasks, 1000)
    assert {task.attempt for task in completed} == {1}


@pytest.mark.asyncio
async def test_no_task_is_given_to_an_agent_that_is_known_to_be_busy(running: Everything) -> None:
    assert await sent_to_busy_agents(running, 200) == 0


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.asyncio
async def test_of_very_many_tasks_none_is_given_to_an_agent_that_is_known_to_be_busy(
    running: Everything,
) -> None:
    assert await sent_to_busy_agents(running, 2000) == 0
