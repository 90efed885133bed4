"""Tasks given to agents as they are met in the field, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
import pytest_asyncio
import uvicorn

from opscore_middleware.agentkit import AsyncAgentKit
from opscore_middleware.core.runs.tasks import Route, TaskState
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.server import Settings, create_app
from opscore_middleware.testing import Quirks, SimulatedAgentKit
from tests.agentkit.support import NOTIFY, served
from tests.support.fields import Field
from tests.support.raw_agents import (
    Habit,
    answers,
    echoes,
    echoes_nothing,
    idles_at_acknowledgement,
    speaks_at_the_end,
    works_in_line,
)
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.asyncio

KEY: Final = "open-sesame"
SECRET: Final = "shared-with-agentkit"


@asynccontextmanager
async def field(**settings: Any) -> AsyncIterator[Field]:
    given = {"database_url": "sqlite:///:memory:", "api_key": KEY, **settings}
    app = create_app(Settings.resolve(**given))
    async with AsyncExitStack() as stack:
        config = uvicorn.Config(app, ws="none", log_config=None, lifespan="on")
        server = uvicorn.Server(config)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        running = asyncio.ensure_future(server._serve([listener]))
        try:
            await wait_until_async(lambda: server.started, message="Ops-Core to listen")
            async with AsyncExitStack() as around:
                made = Field(f"http://127.0.0.1:{listener.getsockname()[1]}", KEY, around)
                await around.enter_async_context(made.client)
                yield made
        finally:
            server.should_exit = True
            await running


@pytest_asyncio.fixture
async def ops() -> AsyncIterator[Field]:
    """Return an Ops-Core without an AgentKit."""
    async with field() as made:
        yield made


DONE: Final = TaskState.COMPLETED


# --- habits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("habit", [echoes, works_in_line, speaks_at_the_end])
async def test_an_agent_that_echoes_the_id_does_the_task_once(ops: Field, habit: Habit) -> None:
    agent = await ops.join(habit)
    session_id = await ops.start(agent, parameters={"text": "long"})
    task = await ops.until(session_id, DONE)
    assert agent.attempts == [f"{task.task_id}.1"]
    assert agent.bodies[0]["payload"] == {"text": "long"}
    assert (task.attempt, task.inferred, task.route) == (1, False, Route.DIRECT)
    assert (await ops.client.get_session(session_id)).state is SessionState.COMPLETED


async def test_an_idle_at_acknowledgement_ends_nothing(ops: Field) -> None:
    agent = await ops.join(idles_at_acknowledgement)
    agent.working.clear()
    session_id = await ops.start(agent)
    await ops.until(session_id, TaskState.RUNNING)
    agent.working.set()
    task = await ops.until(session_id, DONE)
    assert (task.attempt, task.inferred) == (1, False)


async def test_the_end_is_inferred_for_an_agent_that_echoes_nothing(ops: Field) -> None:
    agent = await ops.join(echoes_nothing)
    agent.working.clear()
    session_id = await ops.start(agent)
    assert (await ops.until(session_id, TaskState.RUNNING)).inferred
    agent.working.set()
    task = await ops.until(session_id, DONE)
    assert (task.attempt, task.inferred) == (1, True)


async def test_nothing_is_inferred_where_that_is_turned_off() -> None:
    async with field(infer=False) as ops:
        agent = await ops.join(echoes_nothing)
        session_id = await ops.start(
            agent, timeouts={"scheduleToStart": "300ms"}, retry={"maximumAttempts": 1}
        )
        task = await ops.until(session_id, TaskState.FAILED, DONE)
    assert (task.state, task.error["type"]) == (TaskState.FAILED, "ScheduleToStartTimeout")


async def test_an_agent_that_works_in_line_is_running_long_before_it_answers(ops: Field) -> None:
    agent = await ops.join(works_in_line)
    agent.working.clear()
    session_id = await ops.start(agent)
    await ops.until(session_id, TaskState.RUNNING)
    agent.working.set()
    assert (await ops.until(session_id, DONE)).attempt == 1


async def test_an_agent_that_refuses_for_good_fails_the_task_with_its_words(ops: Field) -> None:
    agent = await ops.join(answers(422))
    task = await ops.until(await ops.start(agent), TaskState.FAILED)
    assert (task.attempt, task.error["status"]) == (1, 422)
    assert task.error["answer"] == '{"detail":"not me"}'
    assert len(agent.attempts) == 1


async def test_an_agent_that_is_always_busy_spends_no_attempt(ops: Field) -> None:
    agent = await ops.join(answers(503, **{"Retry-After": "0"}))
    session_id = await ops.start(agent, timeouts={"scheduleToClose": "2s"})
    task = await ops.until(session_id, TaskState.FAILED)
    assert len(agent.attempts) > 1
    assert task.attempts <= 1
    assert len(set(agent.attempts)) == len(agent.attempts)


async def test_a_task_waits_for_an_agent_that_works_for_a_stranger(ops: Field) -> None:
    agent = await ops.join(echoes)
    await agent.report("active")
    session_id = await ops.start(agent)
    task = await ops.task(session_id)
    assert "active" in (await ops.client.why_task(task.task_id)).why
    assert agent.attempts == []
    await agent.report("idle")
    await ops.until(session_id, DONE)
    assert len(agent.attempts) == 1


async def test_a_free_agent_takes_what_another_is_too_busy_for(ops: Field) -> None:
    busy = await ops.join(echoes, "busy")
    await busy.report("active")
    free = await ops.join(echoes, "free")
    await ops.until(await ops.start(busy), DONE)
    assert (len(busy.attempts), len(free.attempts)) == (0, 1)


async def test_a_cancelled_session_hangs_up_on_the_agent(ops: Field) -> None:
    agent = await ops.join(works_in_line)
    agent.working.clear()
    session_id = await ops.start(agent)
    await ops.until(session_id, TaskState.RUNNING)
    session = await ops.client.cancel_session(session_id)
    assert session.state is SessionState.CANCELLED
    assert (await ops.task(session_id)).state is TaskState.CANCELLED
    await wait_until_async(agent.hung_up.is_set, message="the connection to be closed")


async def test_agents_that_work_in_line_do_not_hold_up_others() -> None:
    async with field(sending=1) as ops:
        agents = [await ops.join(works_in_line, f"worker-{number}") for number in range(3)]
        for agent in agents:
            agent.working.clear()
        sessions = [await ops.start(agents[0]) for _ in agents]
        for session_id in sessions:
            await ops.until(session_id, TaskState.RUNNING)
        for agent in agents:
            agent.working.set()
        for session_id in sessions:
            await ops.until(session_id, DONE)


async def test_many_tasks_go_to_many_agents_one_at_a_time_each(ops: Field) -> None:
    agents = [await ops.join(echoes, f"worker-{number}") for number in range(3)]
    sessions = [await ops.start(agents[0]) for _ in range(12)]
    for session_id in sessions:
        assert (await ops.until(session_id, DONE)).attempt == 1
    assert sum(len(agent.attempts) for agent in agents) == 12
    assert all(agent.attempts for agent in agents)


# --- routes --------------------------------------------------------------------------------------


class Kit:
    """An AgentKit on a real socket, that tells Ops-Core of its agents."""

    def __init__(self, kit: SimulatedAgentKit, url: str) -> None:
        self.kit = kit
        self.url = url


@pytest.fixture
def kit() -> Iterator[Kit]:
    kit = SimulatedAgentKit(secret=SECRET)
    with served(kit) as url:
        yield Kit(kit, url)


@asynccontextmanager
async def field_with(kit: Kit) -> AsyncIterator[tuple[Field, AsyncAgentKit]]:
    async with (
        field(agentkit_api_url=kit.url, webhook_secret=SECRET) as ops,
        AsyncAgentKit(kit.url) as client,
    ):
        kit.kit.webhook_url = ops.url + NOTIFY
        yield ops, client


async def test_an_agent_of_agentkits_is_reached_through_it(kit: Kit) -> None:
    async with field_with(kit) as (ops, client):
        agent = await ops.join(echoes, kit=client)
        task = await ops.until(await ops.start(agent), DONE)
    assert task.route is Route.AGENTKIT
    assert [message.body["opscore_task_id"] for message in kit.kit.messages] == agent.attempts


async def test_an_agentkit_that_accepts_and_never_forwards_is_gone_around(kit: Kit) -> None:
    kit.kit.quirks = Quirks(accepts_and_never_forwards=True)
    async with field_with(kit) as (ops, client):
        agent = await ops.join(echoes, kit=client)
        task = await ops.until(await ops.start(agent, timeouts={"scheduleToStart": "300ms"}), DONE)
        assert (task.attempt, task.route) == (1, Route.DIRECT)
        assert agent.attempts == [f"{task.task_id}.1"]
        second = await ops.until(await ops.start(agent), DONE)
    # The way that worked is tried first from then on.
    assert second.route is Route.DIRECT
    assert len(kit.kit.messages) == 1


async def test_an_agent_that_agentkit_has_forgotten_is_reached_straight_at_once(kit: Kit) -> None:
    async with field_with(kit) as (ops, client):
        agent = await ops.join(echoes, kit=client)
        kit.kit.restart()
        task = await ops.until(await ops.start(agent), DONE)
    assert (task.attempt, task.route) == (1, Route.DIRECT)


async def test_an_agent_that_agentkit_hangs_up_on_goes_on_with_its_work(kit: Kit) -> None:
    kit.kit.quirks = Quirks(forward_timeout=0.1)
    async with field_with(kit) as (ops, client):
        agent = await ops.join(works_in_line, kit=client)
        agent.working.clear()
        session_id = await ops.start(agent)
        await ops.until(session_id, TaskState.RUNNING)
        await wait_until_async(agent.hung_up.is_set, message="AgentKit to hang up")
        agent.working.set()
        task = await ops.until(session_id, DONE)
    assert (task.attempt, task.route) == (1, Route.AGENTKIT)
    assert len(agent.attempts) == 1
