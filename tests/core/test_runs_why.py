"""Why a task is not running, in one sentence."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from opscore_middleware.core.models import Heartbeat
from tests.core.engine_support import Bench, benched
from tests.core.play import one

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched() as bench:
        await bench.agent()
        yield bench


async def why(bench: Bench, session_id: str, node: str = "a") -> str:
    return (await bench.engine.why((await bench.task(session_id, node)).task_id)).why


async def test_nobody_can_do_it(bench: Bench) -> None:
    session_id = await bench.start(one("a", agentCapability="fly"))
    assert await why(bench, session_id) == "No agent has capability 'fly'."


async def test_all_who_can_are_busy(bench: Bench) -> None:
    session_id = await bench.start(one("a"))
    assert await why(bench, session_id) == "1 agent has capability 'c', and it is silent so far."
    await bench.agent("b")
    for agent_id in ("a", "b"):
        await bench.say("active", agent_id=agent_id)
    assert await why(bench, session_id) == "2 agents have capability 'c', all active."
    await bench.say("draining", agent_id="b")
    told = await why(bench, session_id)
    assert told == "2 agents have capability 'c', 1 active, 1 draining."


async def test_its_agent_has_another_task(bench: Bench) -> None:
    await bench.say("idle")
    session_id = await bench.start(one("first", priority=1), one("a", agentId="a"))
    assert "free to take it" in await why(bench, session_id)
    await bench.claim()
    told = await why(bench, session_id)
    assert told == "It is for agent 'a', which is busy with another task."


async def test_its_agent_is_lost(bench: Bench) -> None:
    await bench.say("idle", instance_id="i", sequence=1)
    await bench.core.heartbeat(
        "a", Heartbeat(instance_id="i", state="idle", sequence=1, interval_seconds=10)
    )
    session_id = await bench.start(one("a", agentId="a"))
    bench.clock.move(40)
    assert await why(bench, session_id) == "It is for agent 'a', which has been lost for 40s."


async def test_its_agent_was_never_registered_or_was_taken_out(bench: Bench) -> None:
    session_id = await bench.start(one("a", agentId="ghost"), one("b", agentId="a"))
    assert "no agent with that id" in await why(bench, session_id)
    await bench.core.deregister("a")
    assert await why(bench, session_id, "b") == "It is for agent 'a', which was deregistered."


async def test_it_waits_for_others(bench: Bench) -> None:
    session_id = await bench.start(
        one("x"), one("y", fallbackTaskId="f"), one("f"), one("a", dependsOn=["x", "y"])
    )
    assert await why(bench, session_id) == "It waits for x (ready) and y (ready)."
    assert await why(bench, session_id, "f") == "It is done only if y fails."


async def test_it_waits_for_a_fallback(bench: Bench) -> None:
    await bench.say("idle")
    session_id = await bench.start(
        one("y", fallbackTaskId="f", retry={"maximumAttempts": 1}),
        one("f"),
        one("a", dependsOn=["y"]),
    )
    claim = await bench.claim()
    await bench.engine.not_sent(claim.task, error={"type": "T", "message": "m"})
    assert await why(bench, session_id) == "It waits for f (ready)."


async def test_its_time_has_not_come(bench: Bench) -> None:
    await bench.say("idle")
    session_id = await bench.start(
        one("a", delay="90s"), one("b", retry={"initialInterval": "12s"}, priority=1)
    )
    assert await why(bench, session_id) == "It is to begin in 90s."
    claim = await bench.claim()
    await bench.engine.not_sent(claim.task, error={"type": "T", "message": "It broke."})
    told = await why(bench, session_id, "b")
    assert told == "Retry in 12s, after 1 of 3 attempts failed: It broke."


async def test_it_has_failed(bench: Bench) -> None:
    await bench.say("idle")
    session_id = await bench.start(one("a", retry={"maximumAttempts": 1}))
    claim = await bench.claim()
    await bench.engine.not_sent(claim.task, error={"type": "T", "message": "It broke."})
    assert await why(bench, session_id) == "It has failed: It broke."


async def test_an_attempt_that_was_put_off_is_none_that_failed(bench: Bench) -> None:
    await bench.say("idle")
    session_id = await bench.start(one("a"))
    full = {"type": "Busy", "message": "It has no room."}
    for _ in range(2):
        claim = await bench.claim()
        await bench.engine.not_sent(claim.task, error=full, later=True, retry_after=7)
        told = await why(bench, session_id)
        assert told == "It is given out again in 7s, no attempt being spent: It has no room."
        bench.clock.move(7)


async def test_its_session_is_paused(bench: Bench) -> None:
    session_id = await bench.start(one("a"))
    await bench.engine.pause_session(session_id)
    assert await why(bench, session_id) == f"Its session '{session_id}' is paused."


async def test_it_is_under_way_or_over(bench: Bench) -> None:
    await bench.say("idle")
    session_id = await bench.start(one("a"))
    claim = await bench.claim()
    bench.clock.move(3)
    assert "was given to agent 'a' 3s ago" in await why(bench, session_id)
    await bench.say("active", claim)
    bench.clock.move(600)
    assert await why(bench, session_id) == "It is running: agent 'a' has worked on it for 10m."
    await bench.engine.cancel_task(claim.task.task_id)
    assert await why(bench, session_id) == "It is cancelled."


async def test_its_items_are_counted(bench: Bench) -> None:
    session_id = await bench.start(
        one("a", forEach="initialPayload.list"), initial_payload={"list": [1, 2]}
    )
    told = await why(bench, session_id)
    assert told == "It is done once for each of 2 items, 0 of which have ended."
