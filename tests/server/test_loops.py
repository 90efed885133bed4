"""What the server does by itself: it never ends, tells of trouble once, and stops when told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
import pytest_asyncio
from starlette.testclient import TestClient

from opscore_middleware.agentkit import AsyncAgentKit
from opscore_middleware.core.models import Heartbeat, Registration
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.errors import AgentDeregistered, AgentNotFound, StoreUnavailable
from opscore_middleware.server import Settings, create_app
from opscore_middleware.server.loops import Loop, reconciliation, repeat, running, watch
from opscore_middleware.stores import open_store
from opscore_middleware.testing import Quirks, SimulatedAgentKit
from tests.agentkit.support import served
from tests.server.conftest import register, report_of
from tests.support.clock import MovedClock
from tests.support.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.asyncio

AGENT = Registration(agent_name="a", version="1", contact_endpoint="http://127.0.0.1:9/task")


class Over(Exception):
    """The test has seen enough rounds."""


class Rounds:
    """A pause that notes what it was asked for, and ends the loop after so many."""

    def __init__(self, count: int) -> None:
        self.asked: list[float] = []
        self._count = count

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        if len(self.asked) == self._count:
            raise Over


async def rounds(count: int, loop: Loop) -> list[float]:
    """Go round a loop so many times, and return the pauses."""
    pause = Rounds(count)
    with pytest.raises(Over):
        await repeat("test", loop, pause)
    return pause.asked


def answers(*outcomes: float | Exception, retry: float = 1.0) -> Loop:
    following = iter(outcomes)

    async def step() -> float:
        outcome = next(following)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Loop(step, retry)


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "opscore_middleware")
    return lambda: [record.message for record in caplog.records]


@pytest_asyncio.fixture
async def opscore() -> AsyncIterator[OpsCore]:
    store = open_store("sqlite:///:memory:")
    await store.open()
    yield OpsCore(store)
    await store.close()


# --- repeating -----------------------------------------------------------------------------------


async def test_a_step_says_when_it_is_due_again(events: Callable[[], list[str]]) -> None:
    assert await rounds(3, answers(5.0, 7.0, 1.0)) == [5.0, 7.0, 1.0]
    assert events() == []


async def test_trouble_is_told_once_and_tried_again_and_so_is_its_end(
    events: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    down = StoreUnavailable("the disk is full")
    loop = answers(9.0, down, down, ValueError("odd"), 9.0, down, 9.0, retry=2.0)
    assert await rounds(7, loop) == [9.0, 2.0, 2.0, 2.0, 9.0, 2.0, 9.0]
    assert events() == ["loop_failed", "loop_recovered", "loop_failed", "loop_recovered"]
    assert not any(record.exc_info for record in caplog.records)
    assert caplog.records[0].__dict__["detail"] == "the disk is full"


async def test_what_nobody_expected_is_told_with_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await rounds(1, answers(ValueError("odd")))
    assert caplog.records[0].exc_info


async def test_a_step_that_hangs_is_cancelled_at_the_end() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hangs() -> float:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return 0.0

    async with running({"hangs": Loop(hangs, 1.0), "fails": answers(OSError())}, asyncio.sleep):
        await begun.wait()
    assert cancelled.is_set()
    assert {task.get_name() for task in asyncio.all_tasks()} & {"hangs", "fails"} == set()


# --- listening -----------------------------------------------------------------------------------


async def test_the_watch_loses_a_silent_agent_and_keeps_one_that_speaks() -> None:
    clock = MovedClock()

    app = create_app(
        Settings.resolve(database_url="sqlite:///:memory:"), clock=clock, pause=clock.listen
    )
    with TestClient(app) as client:
        beat = {"instanceId": "i", "state": "idle", "sequence": 1}
        for name, interval in (("silent", 5), ("patient", 86400)):
            agent_id = register(client, name, agentId=name)
            report = report_of(agent_id, instanceId="i")
            client.post(f"/v1/opscore/agent/{agent_id}/state", json=report)
            client.post(
                f"/v1/opscore/agent/{agent_id}/heartbeat",
                json={**beat, "intervalSeconds": interval},
            )
        wait_until(lambda: client.get("/v1/opscore/agents/silent").json()["lost"])
        assert not client.get("/v1/opscore/agents/patient").json()["lost"]


async def test_a_watch_that_cannot_write_goes_on_trying(
    opscore: OpsCore, events: Callable[[], list[str]]
) -> None:
    await opscore.store.close()
    assert await rounds(3, watch(opscore)) == [1.0, 1.0, 1.0]
    assert events() == ["loop_failed"]


# --- AgentKit's list -----------------------------------------------------------------------------


async def test_whom_agentkit_lists_is_registered_and_who_was_taken_out_stays_out(
    opscore: OpsCore,
) -> None:
    kit = SimulatedAgentKit(quirks=Quirks(lists_agents=True))
    async with kit, AsyncAgentKit("http://agentkit", transport=kit.transport()) as agentkit:
        removed = await agentkit.register(AGENT.model_copy(update={"agent_name": "removed"}))
        await opscore.register(Registration(agent_id=removed, agent_name="removed"))
        await opscore.deregister(removed)
        told_of = await agentkit.register(AGENT)
        loop = reconciliation(opscore, agentkit)
        (pause,) = await rounds(1, loop)
        assert 20 < pause < 40
        assert (await opscore.agent(told_of)).agent_name == "a"
        with pytest.raises(AgentDeregistered):
            await opscore.agent(removed)
        await opscore.deregister(told_of)
        late = await agentkit.register(AGENT.model_copy(update={"agent_name": "late"}))
        await rounds(2, loop)
        assert (await opscore.agent(late)).state == "UNKNOWN"
        with pytest.raises(AgentDeregistered):
            await opscore.agent(told_of)


async def test_an_agentkit_that_lists_nobody_is_asked_again_later(
    opscore: OpsCore, events: Callable[[], list[str]]
) -> None:
    kit = SimulatedAgentKit()
    async with kit, AsyncAgentKit("http://agentkit", transport=kit.transport()) as agentkit:
        assert await rounds(3, reconciliation(opscore, agentkit)) == [600.0] * 3
        assert events() == ["agentkit_lists_no_agents"]
        agent_id = await agentkit.register(AGENT)
        with pytest.raises(AgentNotFound):
            await opscore.agent(agent_id)
        kit.quirks = Quirks(lists_agents=True)
        await rounds(1, reconciliation(opscore, agentkit))
        assert (await opscore.agent(agent_id)).agent_name == "a"


async def test_an_agentkit_that_is_away_is_told_of_once(
    opscore: OpsCore, events: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    kit = SimulatedAgentKit(quirks=Quirks(down=True, lists_agents=True))
    async with kit, AsyncAgentKit("http://agentkit", transport=kit.transport()) as agentkit:
        assert await rounds(3, reconciliation(opscore, agentkit)) == [30.0, 30.0, 30.0]
    assert events() == ["loop_failed"]
    assert "AGENTKIT_API_URL" in caplog.records[0].__dict__["detail"]


async def test_the_server_asks_the_agentkit_that_it_is_configured_with() -> None:
    kit = SimulatedAgentKit(quirks=Quirks(lists_agents=True))
    with served(kit) as url:
        async with AsyncAgentKit(url) as agentkit:
            agent_id = await agentkit.register(AGENT)
        settings = Settings.resolve(database_url="sqlite:///:memory:", agentkit_api_url=f"{url}/v1")
        app = create_app(settings)
        async with app.router.lifespan_context(app):

            async def known() -> bool:
                with suppress(AgentNotFound):
                    return bool(await app.state.opscore.agent(agent_id))
                return False

            await wait_until_async(known)


async def test_doubt_is_told_of_as_it_begins_and_as_it_ends(
    events: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    clock, store = MovedClock(), open_store("sqlite:///:memory:")
    await store.open()
    opscore = OpsCore(store, clock=clock)
    beat = Heartbeat(instance_id="i", state="idle", sequence=0, interval_seconds=10)
    await opscore.register(Registration(agent_id="a", agent_name="a"))
    loop = watch(opscore)

    async def listen(seconds: int, *, heard: bool) -> None:
        for _ in range(seconds):
            clock.move(1)
            for number in range(10 if heard else 0):
                instance = beat.model_copy(update={"instance_id": str(number)})
                await opscore.heartbeat("a", instance)
            await rounds(1, loop)

    await listen(3, heard=True)
    await listen(60, heard=False)
    assert events() == ["doubting_itself"]
    assert caplog.records[0].__dict__["silent"] == 10
    await listen(3, heard=True)
    assert events() == ["doubting_itself", "doubt_over"]
    await store.close()
