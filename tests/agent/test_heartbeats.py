"""Heartbeats: what they say, and what the answer to one makes the agent do."""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import threading
import time
from typing import Any

import anyio
import anyio.from_thread
import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from opscore_middleware import AgentState, OpsCoreMiddleware, track
from tests.agent.desk import ours
from tests.agent.exchange import JSON, Exchange, doing, reported
from tests.agent.support import URL, Received, ScriptedOpsCore
from tests.support.waiting import wait_until, wait_until_async

LIFE = ["initializing", "idle"]


class Answering:
    """Answers heartbeats as a test says, and keeps them."""

    def __init__(self, **answer: Any) -> None:
        self.answer = answer
        self.beats: list[dict[str, Any]] = []
        self.at: list[float] = []

    def __call__(self, call: Received) -> httpx.Response | None:
        if not call.path.endswith("/heartbeat"):
            return None
        self.beats.append(call.body)
        self.at.append(time.monotonic())
        said = {
            "state": call.body["state"],
            "lastSequence": call.body["sequence"],
            "drain": False,
            "cancel": [],
            "intervalSeconds": call.body["intervalSeconds"],
            **{name: value() if callable(value) else value for name, value in self.answer.items()},
        }
        return httpx.Response(200, json=said)


def serving(ops_core: ScriptedOpsCore, app: FastAPI | None = None, **settings: Any) -> TestClient:
    app = app or FastAPI()
    app.add_middleware(
        OpsCoreMiddleware,
        api_url=URL,
        agent_name="tested",
        transport=ops_core.transport,
        **{"heartbeat_interval": 0.1, **settings},
    )
    return TestClient(app)


def test_a_beat_says_how_the_instance_is() -> None:
    answering = Answering()
    ops_core = ScriptedOpsCore(answering)
    with serving(ops_core):
        wait_until(lambda: len(answering.beats) >= 2)
    reports = ops_core.reports
    beat = answering.beats[1]
    assert beat["instanceId"] == reports[0]["instanceId"]
    assert (beat["state"], beat["sequence"], beat["inFlight"]) == ("idle", 2, 0)
    assert beat["intervalSeconds"] == 0.1
    assert 0 <= beat["loopLagSeconds"] < 5
    assert ops_core.states == [*LIFE, "draining", "finished"]


def test_the_interval_that_ops_core_asks_for_is_kept() -> None:
    answering = Answering(intervalSeconds=3600)
    ops_core = ScriptedOpsCore(answering)
    with serving(ops_core, heartbeat_interval=3600) as client:
        wait_until(lambda: len(answering.beats) == 1)
        assert answering.beats[0]["intervalSeconds"] == 3600
    answering.answer["intervalSeconds"] = 0.1
    with serving(ops_core, heartbeat_interval=0.3) as client:
        wait_until(lambda: len(answering.beats) >= 6)
        client.get("/")
    assert [beat["intervalSeconds"] for beat in answering.beats[2:]] == [0.1] * (
        len(answering.beats) - 2
    )
    gaps = [b - a for a, b in zip(answering.at[2:], answering.at[3:], strict=False)]
    assert statistics.median(gaps) > 0.05


@pytest.mark.parametrize(
    "interval",
    [10**400, math.nan, math.inf, -1, "often", None],
    ids=["beyond measure", "nan", "inf", "negative", "text", "null"],
)
def test_an_interval_that_is_none_is_passed_over(
    interval: Any, log: pytest.LogCaptureFixture
) -> None:
    beats: list[Any] = []

    def answer(call: Received) -> httpx.Response | None:
        if not call.path.endswith("/heartbeat"):
            return None
        beats.append(call.body)
        said = {"lastSequence": call.body["sequence"], "intervalSeconds": interval}
        return httpx.Response(200, content=json.dumps(said))

    ops_core = ScriptedOpsCore(answer)
    with serving(ops_core):
        wait_until(lambda: len(beats) >= 3)
    assert {beat["intervalSeconds"] for beat in beats} == {0.1}
    assert ops_core.states == [*LIFE, "draining", "finished"]
    assert ours(log) == []


def test_a_server_that_has_lost_the_state_is_told_again() -> None:
    ops_core = ScriptedOpsCore()
    answering = Answering(lastSequence=lambda: max(r["sequence"] for r in ops_core.reports) - 1)
    ops_core.script = answering
    with serving(ops_core):
        wait_until(lambda: ops_core.states.count("idle") >= 3)
        answering.answer.clear()
    sequences = [report["sequence"] for report in ops_core.reports]
    assert sequences == list(range(1, len(sequences) + 1))


def test_an_agent_that_is_asked_to_drain_does_and_serves_on() -> None:
    ops_core = ScriptedOpsCore()
    ops_core.script = Answering(drain=lambda: "idle" in ops_core.states)
    app = FastAPI()

    @app.post("/job")
    async def work() -> str:
        return "done"

    with serving(ops_core, app) as client:
        ops_core.wait_for(*LIFE, "draining")
        assert client.post("/job").json() == "done"
    ops_core.wait_for(*LIFE, "draining", "finished")


def test_a_blocked_loop_does_not_silence_the_agent_and_its_lag_is_told() -> None:
    answering = Answering()
    ops_core = ScriptedOpsCore(answering)
    app, go_on = FastAPI(), threading.Event()

    @app.post("/block")
    async def block() -> None:
        go_on.wait(10)

    with serving(ops_core, app) as client:
        request = threading.Thread(target=client.post, args=("/block",))
        request.start()
        wait_until(
            lambda: any(beat.get("loopLagSeconds", 0) > 0.3 for beat in list(answering.beats))
        )
        assert answering.beats[-1]["inFlight"] == 1
        assert answering.beats[-1]["state"] == "active"
        go_on.set()
        request.join()
        wait_until(lambda: answering.beats[-1]["inFlight"] == 0)


# --- cancellation --------------------------------------------------------------------------------


def carrying(task_id: str) -> Exchange:
    return Exchange(b'{"opscore_task_id": "%s"}' % task_id.encode(), headers=JSON)


def cancelling(*task_ids: str) -> ScriptedOpsCore:
    return ScriptedOpsCore(Answering(cancel=list(task_ids)))


# Cancelling reaches into asyncio tasks; elsewhere `on_cancel` is the way.
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@asyncio_only
@pytest.mark.anyio
async def test_a_task_that_is_cancelled_stops_and_is_said_to_be_interrupted() -> None:
    ops_core = cancelling("t.1")
    stopped: list[str] = []

    async def work() -> None:
        async with track("outer"):
            async with track("inner"):
                pass
            try:
                await anyio.sleep_forever()
            finally:
                stopped.append("t.1")

    agent = doing(work, ops_core, heartbeat_interval=0.1)
    with anyio.fail_after(10):
        with pytest.raises(asyncio.CancelledError):
            await _in_a_task(carrying("t.1"), agent)
    assert stopped == ["t.1"]
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == {
        "opscore_task_id": "t.1",
        "opscore_task_state": "interrupted",
    }


async def _in_a_task(exchange: Exchange, agent: OpsCoreMiddleware) -> None:

    await asyncio.ensure_future(exchange.run(agent))


@asyncio_only
@pytest.mark.anyio
async def test_work_on_other_tasks_goes_on() -> None:
    ops_core = cancelling("another.1")
    answering: Any = ops_core.script

    async def work() -> None:
        async with track("job"):
            asked = len(answering.beats)
            await wait_until_async(lambda: len(answering.beats) > asked + 2)

    agent = doing(work, ops_core, heartbeat_interval=0.1)
    assert (await carrying("t.1").run(agent)).status == 200
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"]["opscore_task_state"] == "completed"


@asyncio_only
@pytest.mark.anyio
async def test_work_that_begins_after_it_was_cancelled_stops_with_the_next_beat() -> None:
    ops_core = cancelling("t.1")
    answering: Any = ops_core.script

    async def work() -> None:
        await wait_until_async(lambda: len(answering.beats) > 2)
        async with track("late"):
            await anyio.sleep_forever()

    agent = doing(work, ops_core, heartbeat_interval=0.1)
    with anyio.fail_after(10), pytest.raises(asyncio.CancelledError):
        await _in_a_task(carrying("t.1"), agent)
    await reported(ops_core, "active", "idle")


@pytest.mark.anyio
async def test_on_cancel_is_called_once_for_each_task_instead(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ops_core = cancelling("t.1", "t.2")
    answering: Any = ops_core.script
    cancelled: list[str] = []

    def on_cancel(task_id: str) -> None:
        cancelled.append(task_id)
        if task_id == "t.1":
            raise SystemExit("hurt")

    async def work() -> None:
        async with track("job"):
            await wait_until_async(lambda: len(answering.beats) > 4)

    agent = doing(work, ops_core, heartbeat_interval=0.1, on_cancel=on_cancel)
    assert (await carrying("t.1").run(agent)).status == 200
    assert sorted(cancelled) == ["t.1", "t.2"]
    assert "on_cancel failed for task 't.1'" in caplog.text
    caplog.clear()
    assert agent.state is AgentState.IDLE
