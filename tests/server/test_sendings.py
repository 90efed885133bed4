"""Attempts side by side: how many at once, who is listened to and how long, what a stop means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.records import Claim
from opscore_middleware.core.runs.tasks import Route, Task, attempt_id
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.server.allowed import Allowed, AllowedTransport
from opscore_middleware.server.dispatch.sending import Sender
from opscore_middleware.server.dispatch.sendings import Sendings
from opscore_middleware.server.dispatch.tally import Tally
from tests.support.attempts import AgentServer, answering, attempt, endpoint, listening_agent
from tests.support.waiting import TIMEOUT, wait_until_async

pytestmark = pytest.mark.asyncio

NOW = 1_790_000_000 * SECOND


class Ear:
    """What of an engine hears of attempts, and of its store knows which are open."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refused: list[tuple[str, dict[str, Any]]] = []
        self.open: list[Task] = []
        self.is_away = False
        self.store = self

    async def sent(self, task: Task, route: Route) -> None:
        self.taken.append(attempt_id(task))
        if self.is_away:
            raise StoreUnavailable("The database is away.")

    async def not_sent(self, task: Task, *, error: dict[str, Any], **_: Any) -> None:
        self.refused.append((attempt_id(task), error))

    async def open_tasks(self, agent_ids: Sequence[str]) -> Sequence[Task]:
        return [task for task in self.open if task.agent_id in agent_ids]


class Office:
    """Sendings, and how often they said that there is room again."""

    def __init__(self, most: int) -> None:
        self.ear = Ear()
        self.freed = 0
        self.tally = Tally()
        self.sender = Sender(AllowedTransport(Allowed()), agentkit=None, clock=lambda: NOW)
        self.sendings = Sendings(
            cast("Engine", self.ear),
            self.sender,
            most=most,
            tally=self.tally,
            clock=lambda: NOW,
            on_free=self._free,
        )

    def start(self, agent: AgentServer, **changes: Any) -> Task:
        task = attempt(ready_at=NOW - 2 * SECOND, **changes)
        self.ear.open.append(task)
        self.sendings.start(Claim(task, endpoint(agent.url), "w", None), (Route.DIRECT,))
        return task

    def _free(self) -> None:
        self.freed += 1


@asynccontextmanager
async def office(most: int = 1) -> AsyncIterator[Office]:
    made = Office(most)
    try:
        yield made
    finally:
        await made.sendings.close()
        await made.sender.close()


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    assert await reader.read(1) == b""


async def test_there_is_room_again_once_an_attempt_is_taken() -> None:
    async with listening_agent(answering("202 Accepted")) as agent, office() as here:
        assert here.sendings.free == 1
        task = here.start(agent)
        assert here.sendings.free == 0
        await wait_until_async(lambda: here.sendings.free == 1)
    assert (here.freed, here.ear.taken) == (1, [attempt_id(task)])
    assert here.tally.sends == {("direct", "taken"): 1}
    assert here.tally.latency.sum == 2.0


async def test_an_agent_at_work_takes_up_no_room_and_is_listened_to() -> None:
    async with listening_agent(silent) as agent, office() as here:
        here.start(agent, route=None)
        await wait_until_async(lambda: here.sendings.free == 1)
        for _ in range(5):
            await here.sendings.look()
        assert not agent.left.is_set()


async def test_an_agent_whose_attempt_is_over_is_hung_up_on_at_the_second_look() -> None:
    async with listening_agent(silent) as agent, office() as here:
        here.start(agent, route=None)
        await wait_until_async(lambda: here.sendings.free == 1)
        here.ear.open.clear()
        await here.sendings.look()
        assert not agent.left.is_set()
        await here.sendings.look()
        await asyncio.wait_for(agent.left.wait(), TIMEOUT)


async def test_a_later_attempt_of_the_same_task_does_not_keep_an_earlier_ones_connection() -> None:
    async with listening_agent(silent) as agent, office() as here:
        here.start(agent, route=None)
        await wait_until_async(lambda: here.sendings.free == 1)
        here.ear.open[:] = [attempt(attempt=2)]
        for _ in range(2):
            await here.sendings.look()
        await asyncio.wait_for(agent.left.wait(), TIMEOUT)


async def test_nobody_is_hung_up_on_because_the_database_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening_agent(silent) as agent, office() as here:
        here.ear.is_away = True
        here.start(agent, route=None)
        await wait_until_async(lambda: here.ear.taken)
        await wait_until_async(
            lambda: [r for r in caplog.records if r.message == "route_not_noted"]
        )
        assert not agent.left.is_set()


async def test_a_refusal_is_told_and_counted_by_what_it_means() -> None:
    async with listening_agent(answering("422 No")) as agent, office() as here:
        task = here.start(agent)
        await wait_until_async(lambda: here.ear.refused)
    ((named, error),) = here.ear.refused
    assert (named, error["status"]) == (attempt_id(task), 422)
    assert here.tally.sends["direct", "final"] == 1


async def test_what_is_on_its_way_when_the_server_stops_still_arrives() -> None:
    go_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await answering("202 Accepted")(reader, writer)

    async with listening_agent(slow) as agent, office() as here:
        here.start(agent)
        await wait_until_async(lambda: agent.requests, message="the agent to have it")
        closing = asyncio.ensure_future(here.sendings.close())
        go_on.set()
        await closing
        assert here.ear.taken == ["task-1.1"]
