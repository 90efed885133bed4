"""Agents as they are met in the field, on each store; Ops-Core is a process of its own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

import pytest
import pytest_asyncio

from opscore_middleware.agentkit import AsyncAgentKit
from opscore_middleware.core.runs.tasks import Route, TaskState
from opscore_middleware.testing import Quirks, SimulatedAgentKit
from tests.agentkit.support import NOTIFY, served
from tests.support.fields import Field
from tests.support.postgres import empty
from tests.support.processes import running_opscore
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
DONE: Final = TaskState.COMPLETED


class Place(NamedTuple):
    """Where Ops-Core listens, and the AgentKit beside it."""

    url: str
    kit: SimulatedAgentKit
    kit_url: str


@pytest.fixture(scope="module", params=["file", "postgres"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    database: str | None = None
    if request.param == "postgres":
        database = request.getfixturevalue("postgres_database")
        empty(database)
    kit = SimulatedAgentKit(secret=SECRET)
    with (
        served(kit) as kit_url,
        running_opscore(
            tmp_path_factory.mktemp("opscore"),
            KEY,
            database_url=database,
            AGENTKIT_API_URL=kit_url,
            OPSCORE_WEBHOOK_SECRET=SECRET,
        ) as opscore,
    ):
        kit.webhook_url = opscore.url + NOTIFY
        yield Place(opscore.url, kit, kit_url)


@pytest_asyncio.fixture
async def ops(place: Place) -> AsyncIterator[Field]:
    """Return that Ops-Core, and agents around it whom no other test's tasks go to."""
    async with AsyncExitStack() as stack:
        field = Field(place.url, KEY, stack, capability=secrets.token_hex(4))
        await stack.enter_async_context(field.client)
        yield field


@pytest_asyncio.fixture
async def kit(place: Place) -> AsyncIterator[AsyncAgentKit]:
    """Return a client of the AgentKit, which is itself again afterwards."""
    async with AsyncAgentKit(place.kit_url) as client:
        yield client
    place.kit.quirks = Quirks()


def name() -> str:
    return f"worker-{secrets.token_hex(4)}"


@pytest.mark.parametrize(
    "habit",
    [echoes, works_in_line, speaks_at_the_end, idles_at_acknowledgement, echoes_nothing],
)
async def test_a_task_is_done_once_whatever_its_agent_says_of_it(ops: Field, habit: Habit) -> None:
    agent = await ops.join(habit, name())
    sessions = [await ops.start(agent) for _ in range(3)]
    for session_id in sessions:
        task = await ops.until(session_id, DONE)
        assert (task.attempt, task.inferred) == (1, habit is echoes_nothing)
    assert len(agent.attempts) == len(set(agent.attempts)) == 3


async def test_an_agent_that_always_answers_503_spends_no_attempt(ops: Field) -> None:
    agent = await ops.join(answers(503, **{"Retry-After": "0"}), name())
    session_id = await ops.start(agent, timeouts={"scheduleToClose": "1s"})
    task = await ops.until(session_id, TaskState.FAILED)
    assert len(set(agent.attempts)) == len(agent.attempts) > 1
    assert task.attempts <= 1


async def test_an_agent_that_answers_422_fails_the_task_at_once(ops: Field) -> None:
    agent = await ops.join(answers(422), name())
    task = await ops.until(await ops.start(agent), TaskState.FAILED)
    assert (task.attempt, task.error["status"]) == (1, 422)
    assert len(agent.attempts) == 1


async def test_an_agent_that_works_for_a_stranger_gets_no_task_until_it_is_free(ops: Field) -> None:
    agent = await ops.join(echoes, name())
    await agent.report("active")
    busy = await ops.start(agent)
    free = await ops.join(echoes, name())
    await ops.until(busy, DONE)
    assert (len(agent.attempts), len(free.attempts)) == (0, 1)
    await free.report("active")
    session_id = await ops.start(agent)
    why = (await ops.client.why_task((await ops.task(session_id)).task_id)).why
    assert "2 agents have" in why
    assert "all active" in why
    await agent.report("idle")
    await ops.until(session_id, DONE)
    assert (len(agent.attempts), len(free.attempts)) == (1, 1)


async def test_an_agent_that_is_deregistered_at_work_leaves_its_task_to_another(
    ops: Field,
) -> None:
    agent = await ops.join(echoes, name())
    agent.working.clear()
    session_id = await ops.start(agent)
    await ops.until(session_id, TaskState.RUNNING)
    other = await ops.join(echoes, name())
    await ops.client.deregister_agent(agent.agent_id)
    task = await ops.until(session_id, DONE)
    assert (task.attempt, task.assigned_agent_id) == (2, other.agent_id)


async def test_an_agentkit_that_accepts_and_never_forwards_is_gone_around(
    ops: Field, kit: AsyncAgentKit, place: Place
) -> None:
    place.kit.quirks = Quirks(accepts_and_never_forwards=True)
    agent = await ops.join(echoes, name(), kit=kit)
    task = await ops.until(await ops.start(agent, timeouts={"scheduleToStart": "300ms"}), DONE)
    assert (task.attempt, task.route) == (1, Route.DIRECT)
    assert agent.attempts == [f"{task.task_id}.1"]


async def test_an_agent_that_agentkit_hangs_up_on_goes_on_with_its_work(
    ops: Field, kit: AsyncAgentKit, place: Place
) -> None:
    place.kit.quirks = Quirks(forward_timeout=0.1)
    agent = await ops.join(works_in_line, name(), kit=kit)
    agent.working.clear()
    session_id = await ops.start(agent)
    await ops.until(session_id, TaskState.RUNNING)
    await wait_until_async(agent.hung_up.is_set, message="AgentKit to hang up")
    agent.working.set()
    task = await ops.until(session_id, DONE)
    assert (task.attempt, task.route) == (1, Route.AGENTKIT)
    assert len(agent.attempts) == 1
