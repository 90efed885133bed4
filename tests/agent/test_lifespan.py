"""Start and end: always forwarded, never depended on, and told before it is too late to tell."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from opscore_middleware import AgentState, OpsCoreMiddleware
from tests.agent.exchange import Exchange
from tests.agent.support import URL, Received, ScriptedOpsCore, watched
from tests.support.waiting import TIMEOUT

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}


class Server:
    """The server's side of one lifespan: what it sends, and what it was sent."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.sent: list[Any] = []
        self.at_send: Callable[[Any], None] = lambda message: None

    async def receive(self) -> Any:
        if self.messages:
            return self.messages.pop(0)
        return await anyio.sleep_forever()

    async def send(self, message: Any) -> None:
        self.at_send(message)
        self.sent.append(message["type"])

    async def run(self, app: Any) -> None:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, self.receive, self.send)


async def complete(scope: Any, receive: Any, send: Any) -> None:
    """Start and stop as an app should."""
    assert await receive() == STARTUP
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == SHUTDOWN
    await send({"type": "lifespan.shutdown.complete"})


@pytest.mark.anyio
async def test_finished_is_delivered_before_the_server_hears_of_the_end(
    ops_core: ScriptedOpsCore,
) -> None:
    server = Server(STARTUP, SHUTDOWN)
    told: dict[str, list[str]] = {}
    server.at_send = lambda message: told.update({message["type"]: ops_core.states})
    await server.run(watched(complete, ops_core))
    assert server.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert told["lifespan.shutdown.complete"] == ["initializing", "idle", "draining", "finished"]


@pytest.mark.anyio
async def test_draining_is_delivered_before_the_app_hears_of_the_end(
    ops_core: ScriptedOpsCore,
) -> None:
    told: list[str] = []

    async def exits_hard(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        told.extend(ops_core.states)
        raise SystemExit  # what os._exit would do, so that the test can look

    with pytest.raises(SystemExit):
        await Server(STARTUP, SHUTDOWN).run(watched(exits_hard, ops_core))
    assert told == ["initializing", "idle", "draining"]


@pytest.mark.anyio
async def test_a_failed_startup_is_delivered_before_the_server_hears_of_it(
    ops_core: ScriptedOpsCore,
) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        message = "Traceback (most recent call last):\nModelMissing: no weights"
        await send({"type": "lifespan.startup.failed", "message": message})

    server = Server(STARTUP)
    told: list[dict[str, Any]] = []
    server.at_send = lambda message: told.extend(ops_core.reports)
    middleware = watched(fails, ops_core)
    await server.run(middleware)
    assert server.sent == ["lifespan.startup.failed"]
    assert [report["state"] for report in told] == ["initializing", "error"]
    error = told[1]["details"]["error"]
    assert error == {"type": "ModelMissing", "message": "no weights", "phase": "startup"}
    assert middleware.state is AgentState.ERROR  # and no hold ends it


@pytest.mark.anyio
@pytest.mark.parametrize("message", [None, ValueError("no ink")])
async def test_what_an_app_says_of_its_failed_startup_may_be_no_text(
    message: object, ops_core: ScriptedOpsCore
) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": message})

    server = Server(STARTUP)
    await server.run(watched(fails, ops_core))
    assert server.sent == ["lifespan.startup.failed"]
    assert ops_core.reports[-1]["details"]["error"]["message"] == str(message or "no reason given")


def test_a_startup_that_raises_in_starlette_is_told_with_its_cause(
    ops_core: ScriptedOpsCore,
) -> None:
    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        raise LookupError("no weights")
        yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(
        OpsCoreMiddleware, api_url=URL, agent_name="tested", transport=ops_core.transport
    )
    with pytest.raises(LookupError), TestClient(app):
        pass
    error = ops_core.wait_for("initializing", "error")[1]["details"]["error"]
    assert error == {"type": "LookupError", "message": "no weights", "phase": "startup"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("redact", "left"),
    [
        (lambda details: None, {}),
        (lambda details: {"error": "secret"}, {}),
        (lambda details: {"error": {"type": "Kept"}}, {"type": "Kept"}),
        (
            lambda details: details["error"].clear() or details["no"],
            {"type": "ModelMissing", "message": "<withheld: redact failed>"},
        ),
    ],
)
async def test_that_it_was_the_startup_is_told_whatever_redact_leaves(
    redact: Any, left: dict[str, str], ops_core: ScriptedOpsCore
) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        message = "ModelMissing: no weights"
        await send({"type": "lifespan.startup.failed", "message": message})

    await Server(STARTUP).run(watched(fails, ops_core, redact=redact))
    error = ops_core.wait_for("initializing", "error")[1]["details"]["error"]
    assert error == {**left, "phase": "startup"}


async def answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


class Unsupported(Exception):
    """What an app without lifespans raises on that scope."""


@pytest.mark.anyio
async def test_an_app_without_lifespans_raises_as_before_and_is_ready(
    ops_core: ScriptedOpsCore,
) -> None:
    raised = Unsupported("lifespan")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise raised
        await answer(send)

    middleware = watched(app, ops_core)
    with pytest.raises(Unsupported) as seen:
        await Server(STARTUP).run(middleware)
    assert seen.value is raised
    await Exchange().run(middleware)
    await anyio.to_thread.run_sync(ops_core.wait_for, "initializing", "idle", "active", "idle")


@pytest.mark.anyio
async def test_an_app_that_leaves_its_lifespan_early_goes_on_working(
    ops_core: ScriptedOpsCore,
) -> None:
    """Servers serve on when an app returns after startup; so must what we tell of it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
        else:
            await answer(send)

    middleware = watched(app, ops_core)
    await Server(STARTUP).run(middleware)
    assert middleware.state is AgentState.IDLE
    await Exchange().run(middleware)
    await anyio.to_thread.run_sync(ops_core.wait_for, "initializing", "idle", "active", "idle")


@pytest.mark.anyio
async def test_an_app_that_only_returns_at_shutdown_is_finished(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()

    await Server(STARTUP, SHUTDOWN).run(watched(app, ops_core))
    assert ops_core.states == ["initializing", "idle", "draining", "finished"]


@pytest.mark.anyio
async def test_a_lifespan_that_is_cancelled_still_says_finished(
    ops_core: ScriptedOpsCore,
) -> None:
    started = anyio.Event()
    server = Server(STARTUP)
    server.at_send = lambda message: started.set()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, watched(complete, ops_core))
        await started.wait()
        tasks.cancel_scope.cancel()
    assert ops_core.states[-1] == "finished"
    assert ops_core.states[:2] == ["initializing", "idle"]


@pytest.mark.anyio
async def test_a_startup_that_is_cancelled_is_never_idle(ops_core: ScriptedOpsCore) -> None:
    starting = anyio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        starting.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Server(STARTUP).run, watched(slow, ops_core))
        await starting.wait()
        tasks.cancel_scope.cancel()
    assert ops_core.states == ["initializing", "finished"]


def test_a_second_life_in_one_process_is_another_instance(ops_core: ScriptedOpsCore) -> None:
    app = Starlette(
        middleware=[
            Middleware(
                OpsCoreMiddleware, api_url=URL, agent_name="tested", transport=ops_core.transport
            )
        ]
    )
    for _ in range(2):
        with TestClient(app):
            pass
    reports = ops_core.wait_for(*["initializing", "idle", "draining", "finished"] * 2)
    first, second = (
        {report["instanceId"] for report in part} for part in (reports[:4], reports[4:])
    )
    assert len(first) == len(second) == 1
    assert first != second


@pytest.mark.anyio
async def test_two_lifespans_at_once_finish_with_the_last(ops_core: ScriptedOpsCore) -> None:
    middleware = watched(complete, ops_core)
    ends = [anyio.Event(), anyio.Event()]
    gone = [anyio.Event(), anyio.Event()]

    async def live(n: int) -> None:
        messages = [STARTUP]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await ends[n].wait()
            return SHUTDOWN

        await middleware({"type": "lifespan"}, receive, Server().send)
        gone[n].set()

    async with anyio.create_task_group() as tasks:
        for n in (0, 1):
            tasks.start_soon(live, n)
        await anyio.wait_all_tasks_blocked()
        ends[0].set()
        await gone[0].wait()
        assert middleware.state is AgentState.IDLE
        ends[1].set()
        await gone[1].wait()
        assert middleware.state is AgentState.FINISHED


@pytest.mark.anyio
async def test_a_black_hole_delays_the_end_by_half_a_second_at_most(
    ops_core: ScriptedOpsCore,
) -> None:
    answering = threading.Event()

    def never(call: Received) -> httpx.Response | None:
        answering.wait(10)
        raise httpx.ReadTimeout("")

    async def whole_life() -> float:
        started = time.monotonic()
        await Server(STARTUP, SHUTDOWN).run(watched(complete, ops_core))
        return time.monotonic() - started

    ops_core.script = never
    # What a busy machine adds is not in all of them.
    assert min([await whole_life() for _ in range(3)]) < 0.6
    answering.set()


@pytest.mark.anyio
async def test_the_end_never_waits_for_the_apps_worker_threads(
    ops_core: ScriptedOpsCore,
) -> None:
    """Blocking endpoints may hold every thread of the pool while the server shuts down."""
    release, blocked = threading.Event(), []

    def block() -> None:
        blocked.append(1)
        release.wait(20)

    limiter = anyio.to_thread.current_default_thread_limiter()
    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(int(limiter.total_tokens)):
                tasks.start_soon(anyio.to_thread.run_sync, block)
            await anyio.wait_all_tasks_blocked()
            started = time.monotonic()
            with anyio.move_on_after(5):
                await Server(STARTUP, SHUTDOWN).run(watched(complete, ops_core))
            took = time.monotonic() - started
            release.set()
    finally:
        release.set()
    assert took < 2
    assert ops_core.states[-1] == "finished"


@pytest.mark.parametrize(
    "failure", [RuntimeError("can't start new thread"), OSError("too many open files")]
)
@pytest.mark.anyio
async def test_the_end_goes_on_where_no_thread_can_be_started(
    failure: Exception, ops_core: ScriptedOpsCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name != "opscore-reporter":
            raise failure
        start(thread)

    server = Server(STARTUP, SHUTDOWN)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        await server.run(watched(complete, ops_core))
    assert server.sent[-1] == "lifespan.shutdown.complete"
    assert ops_core.states[-1] == "finished"


def test_the_end_goes_on_where_no_thread_can_wake_the_loop(ops_core: ScriptedOpsCore) -> None:
    """As after a child that was forked within a request has closed its copy of the loop."""
    server = Server(STARTUP, SHUTDOWN)

    async def serve() -> None:
        loop: Any = asyncio.get_running_loop()
        loop._write_to_self = lambda: None
        await server.run(watched(complete, ops_core))

    served = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    served.start()
    served.join(TIMEOUT)
    assert server.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    ops_core.wait_for("initializing", "idle", "draining", "finished")
