"""Long lives compressed: random work against a model, and an outage of an hour."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import random
import threading
import tracemalloc
from typing import Any

import anyio
import httpx
import pytest

from opscore_middleware import AgentState, OpsCoreMiddleware, track
from tests.agent.exchange import JSON, Exchange
from tests.agent.support import ScriptedOpsCore, watched
from tests.support.waiting import wait_until

# --- random work ---------------------------------------------------------------------------------

KINDS = {
    "ok": "idle",
    "fail": "error",
    "status": "error",
    "leave": "idle",
    "cancel": "idle",
    "hidden": "error",
    "threads": "idle",
    "later": "idle",
    "later fails": "error",
    "rpc error": "error",
    "unfinished": "error",
}
"""What a request does, and the state of an agent that has done nothing else since it was idle."""

IDLE_KINDS = ("housekeeping", "read")
"""What leaves the agent as it is."""


class Agent:
    """An app that does what its request says, with all kinds of tracked work."""

    def __init__(self, ops_core: ScriptedOpsCore) -> None:
        self.middleware = watched(self, ops_core, error_hold=3600, read_grace=3600)
        self.later: list[asyncio.Task[None]] = []
        self.threads: list[threading.Thread] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        kind = scope["path"][1:]
        await anyio.lowlevel.checkpoint()
        await getattr(self, f"do_{kind.replace(' ', '_')}", anyio.lowlevel.checkpoint)()
        if kind == "cancel":
            await anyio.sleep_forever()
        body = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": 500, "message": "no ink"}}'
        headers = [(b"content-type", b"application/json")]
        status = 500 if kind == "status" else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        more = kind in {"unfinished", "leave"}
        body = body if kind == "rpc error" else b"{}"
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def do_ok(self) -> None:
        async with track("ok"):
            await anyio.lowlevel.checkpoint()

    async def do_fail(self) -> None:
        with track("fail"):
            raise ValueError("no ink")

    async def do_hidden(self) -> None:
        try:
            await self.do_fail()
        except ValueError:
            pass

    async def do_threads(self) -> None:
        def job() -> None:
            with track("thread"), track("within"):
                pass

        for _ in range(2):
            run = contextvars.copy_context().run
            self.threads.append(threading.Thread(target=run, args=(job,)))
            self.threads[-1].start()

    async def do_later(self) -> None:
        self.later.append(asyncio.create_task(self.do_ok()))

    async def do_later_fails(self) -> None:
        self.later.append(asyncio.create_task(self.do_hidden()))

    async def settle(self) -> None:
        await asyncio.gather(*self.later)
        for thread in self.threads:
            thread.join()
        self.later.clear()
        self.threads.clear()


async def serve(agent: Agent, kind: str) -> None:
    """Bring one request of a kind, as its client would."""
    body = b'{"jsonrpc": "2.0", "method": "tools/list"}' if kind == "housekeeping" else b"{}"
    method = "GET" if kind == "read" else "POST"
    exchange = Exchange(body, method=method, path=f"/{kind}", headers=JSON, leaves=kind == "leave")
    request = asyncio.ensure_future(exchange.run(agent.middleware))
    if kind == "cancel":
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()
    await asyncio.wait([request])
    if not request.cancelled() and request.exception() is not None:
        assert kind == "fail"


async def live(seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    agent = Agent(ScriptedOpsCore())
    tracker = agent.middleware._tracker
    for _ in range(rounds):
        kinds = chance.choices([*KINDS, *IDLE_KINDS], k=chance.randint(1, 20))
        await asyncio.gather(*(serve(agent, kind) for kind in kinds))
        await agent.settle()
        assert tracker.in_flight == 0, kinds
        assert not tracker._reads, kinds
        # Alone, the last request's end is the agent's state; nothing of what came before is left.
        last = chance.choice(list(KINDS))
        await serve(agent, last)
        await agent.settle()
        assert agent.middleware.state == KINDS[last], (last, kinds)
        assert tracker.in_flight == 0
        before = agent.middleware.state
        await serve(agent, chance.choice(IDLE_KINDS))
        assert agent.middleware.state is before


@pytest.mark.parametrize("seed", range(3))
def test_after_any_mix_of_requests_nothing_is_left_open(seed: int) -> None:
    asyncio.run(live(seed, rounds=40))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_after_any_long_mix_of_requests_nothing_is_left_open(seed: int) -> None:
    asyncio.run(live(seed, rounds=2_000))


# --- an hour without Ops-Core --------------------------------------------------------------------


ROOM = 1_000_000
"""Bytes that the queue and what is just being sent may take, both full; when we look they may be
anything between that and empty. Kept, the transitions of the shorter outage would take ten times
as much."""


class Link(httpx.BaseTransport):
    """A way to Ops-Core that can be cut; nothing is kept of what is tried meanwhile."""

    def __init__(self, ops_core: ScriptedOpsCore) -> None:
        self._there = ops_core.transport()
        self.cut = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.cut:
            raise httpx.ConnectError("away")
        return self._there.handle_request(request)


def outage(transitions: int, caplog: pytest.LogCaptureFixture) -> None:
    """Work through an outage and look at what is told once it is over."""
    ops_core = ScriptedOpsCore()
    link = Link(ops_core)
    middleware = OpsCoreMiddleware(
        nobody,
        api_url="http://ops-core.test",
        agent_name="tested",
        agent_id="a",
        transport=lambda: link,
    )
    tracker = middleware._tracker
    tracker.ready()
    ops_core.wait_for("idle")
    caplog.clear()

    link.cut = True
    sequence = 1
    failures = 0

    def work(units: int) -> None:
        nonlocal sequence, failures
        for n in range(units):
            unit = tracker.begin()
            if n % 100 == 7:
                tracker.fail(unit, {"error": {"type": "ValueError", "message": "no ink"}})
                failures += 1
            else:
                tracker.end(unit)
            sequence += 2

    tracemalloc.start()
    try:
        work(5_000)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        work(transitions // 2 - 5_000)
        tracker.end(tracker.begin())  # so that the last word is known
        sequence += 2
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < ROOM

    link.cut = False
    wait_until(lambda: ops_core.reports[-1]["sequence"] == sequence, timeout=60)
    told = ops_core.reports[1:]
    assert told[-1]["state"] == "idle"
    assert middleware.state is AgentState.IDLE
    assert len(told) + sum(report.get("coalesced", 0) for report in told) == sequence - 1
    errors = sum(report["state"] == "error" for report in told)
    assert errors + sum(report.get("errors", 0) for report in told) == failures
    wait_until(lambda: len(caplog.records) == 2)
    gone, back = (record.getMessage() for record in caplog.records)
    assert "does not take reports" in gone
    assert "takes reports again" in back


async def nobody(scope: Any, receive: Any, send: Any) -> None:
    """Serve nothing: the work is the tracker's."""


def test_an_outage_loses_no_last_word_and_no_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "opscore_middleware")
    outage(60_000, caplog)


@pytest.mark.soak
def test_an_hour_of_outage_at_a_thousand_transitions_a_second_costs_no_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "opscore_middleware")
    outage(3_600_000, caplog)
