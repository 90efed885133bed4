"""Tracked work: units beside, within and beyond requests, in every shape that Python has."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from opscore_middleware import AgentState, OpsCoreMiddleware, track
from opscore_middleware.agent import runtime as runtime_module
from opscore_middleware.agent.runtime import only_runtime
from tests.agent.exchange import Exchange, doing, reported
from tests.agent.support import URL, ScriptedOpsCore, watched
from tests.support.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.anyio


# --- shapes --------------------------------------------------------------------------------------


async def in_a_block() -> None:
    with track("work"):
        pass


async def in_an_async_block() -> None:
    async with track("work"):
        await anyio.lowlevel.checkpoint()


async def in_a_function() -> None:
    @track
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, b=2) == 3


async def in_a_coroutine() -> None:
    @track("adding")
    async def add(a: int, b: int) -> int:
        await anyio.lowlevel.checkpoint()
        return a + b

    assert await add(1, b=2) == 3


async def in_a_generator() -> None:
    @track
    def count(to: int) -> Generator[int, None, str]:
        yield from range(to)
        return "end"

    def whole() -> Generator[int, None, str]:
        return (yield from count(3))

    assert list(whole()) == [0, 1, 2]


async def in_an_async_generator() -> None:
    @track
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            await anyio.lowlevel.checkpoint()
            yield number

    assert [number async for number in count(3)] == [0, 1, 2]


async def in_a_thread() -> None:
    def work() -> None:
        with track():
            pass

    await anyio.to_thread.run_sync(work)


async def in_tasks() -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(in_an_async_block)


SHAPES = [
    in_a_block,
    in_an_async_block,
    in_a_function,
    in_a_coroutine,
    in_a_generator,
    in_an_async_generator,
    in_a_thread,
    in_tasks,
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_a_request_and_its_units_are_one_unit_of_work(
    shape: Any, ops_core: ScriptedOpsCore
) -> None:
    agent = doing(shape, ops_core)
    assert (await Exchange().run(agent)).status == 200
    await reported(ops_core, "active", "idle")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_without_an_agent_nothing_is_counted_and_everything_works(shape: Any) -> None:
    gc.collect()
    await shape()


async def test_what_is_wrapped_stays_what_it_is() -> None:
    @track
    async def coroutine() -> None:
        """Say so."""

    assert asyncio.iscoroutinefunction(coroutine)
    assert (coroutine.__name__, coroutine.__doc__) == ("coroutine", "Say so.")
    double = track(functools.partial(lambda factor, n: factor * n, 2))
    assert double(4) == 8

    class Caller:
        def __call__(self) -> str:
            return "called"

    assert track("named")(Caller())() == "called"


async def test_an_object_that_is_called_and_awaited_is_open_until_its_end(
    ops_core: ScriptedOpsCore,
) -> None:
    class Caller:
        async def __call__(self) -> None:
            await anyio.lowlevel.checkpoint()
            raise ValueError("no ink")

    async def work() -> None:
        with pytest.raises(ValueError):
            await track("printing")(Caller())()

    agent = doing(work, ops_core)
    await Exchange().run(agent)
    error = (await reported(ops_core, "active", "error"))[1]["details"]["error"]
    assert error["where"] == "printing"


async def test_methods_of_a_class_are_tracked_below_their_decorators(
    ops_core: ScriptedOpsCore,
) -> None:
    class Worker:
        @staticmethod
        @track
        def static() -> str:
            raise ValueError("no ink")

    async def work() -> None:
        with pytest.raises(ValueError):
            Worker.static()

    agent = doing(work, ops_core)
    await Exchange().run(agent)
    error = (await reported(ops_core, "active", "error"))[1]["details"]["error"]
    assert error["where"].endswith("Worker.static")


@pytest.mark.parametrize("named", [track, track("named")], ids=["track", "track by name"])
@pytest.mark.parametrize("kind", [classmethod, staticmethod, property])
def test_what_is_no_function_is_refused_with_the_remedy(named: Any, kind: Any) -> None:
    with pytest.raises(TypeError, match="put it below"):
        named(kind(lambda *_: None))


def test_one_unit_is_entered_once() -> None:
    unit = track("once")
    with unit:
        pass
    with pytest.raises(RuntimeError, match="call it again"), unit:
        pass


def test_a_route_keeps_its_signature(ops_core: ScriptedOpsCore) -> None:
    app = FastAPI()
    app.add_middleware(
        OpsCoreMiddleware, api_url=URL, agent_name="tested", transport=ops_core.transport
    )

    @app.post("/double/{n}")
    @track
    async def double(n: int) -> int:
        return 2 * n

    with TestClient(app) as client:
        assert client.post("/double/4").json() == 8
        assert client.post("/double/x").status_code == 422


# --- generators keep their protocol --------------------------------------------------------------


def talkative() -> Generator[Any, Any, str]:
    said: Any = None
    while said != "stop":
        try:
            said = yield ("heard", said)
        except KeyError as error:
            said = yield ("caught", str(error))
    return "end"


async def talkative_async() -> AsyncGenerator[Any, Any]:
    said: Any = None
    while said != "stop":
        try:
            said = yield ("heard", said)
        except KeyError as error:
            said = yield ("caught", str(error))


Step = tuple[str, Any]
TALKS: list[list[Step]] = [
    [("send", None), ("send", 1), ("send", 2)],
    [("send", None), ("send", "stop"), ("send", 1)],
    [("send", None), ("throw", KeyError("k")), ("send", 3), ("send", 4)],
    [("send", None), ("throw", ValueError("v")), ("send", 1)],
    [("send", None), ("throw", KeyError("k")), ("throw", KeyError("l")), ("send", 1)],
    [("send", None), ("close", None), ("send", 1)],
    [("close", None), ("send", None)],
    [("throw", ValueError("early")), ("send", None)],
]


def talk(generator: Any, steps: list[Step]) -> list[Any]:
    heard: list[Any] = []
    for verb, value in steps:
        try:
            heard.append(generator.close() if verb == "close" else getattr(generator, verb)(value))
        except (Exception, StopIteration) as error:
            heard.append(repr(error))
    return heard


async def talk_async(generator: Any, steps: list[Step]) -> list[Any]:
    heard: list[Any] = []
    async with aclosing(generator):
        for verb, value in steps:
            call = generator.aclose() if verb == "close" else getattr(generator, f"a{verb}")(value)
            try:
                heard.append(await call)
            except (Exception, StopAsyncIteration) as error:
                heard.append(repr(error))
    return heard


@pytest.mark.parametrize("steps", TALKS)
async def test_a_generator_is_talked_to_as_before(
    steps: list[Step], ops_core: ScriptedOpsCore
) -> None:
    async def work() -> None:
        assert talk(track(talkative)(), steps) == talk(talkative(), steps)
        assert await talk_async(track(talkative_async)(), steps) == await talk_async(
            talkative_async(), steps
        )

    agent = doing(work, ops_core)
    await Exchange().run(agent)
    await wait_until_async(lambda: agent._tracker.in_flight == 0)


async def test_a_generator_is_open_until_it_is_used_up_or_dropped(
    ops_core: ScriptedOpsCore,
) -> None:
    kept: list[Any] = []

    async def work() -> None:
        kept.append(track(talkative)())
        next(kept[0])

    agent = doing(work, ops_core)
    await Exchange().run(agent)
    assert agent.state is AgentState.ACTIVE
    kept.clear()
    gc.collect()
    await reported(ops_core, "active", "idle")


# --- failures ------------------------------------------------------------------------------------


async def test_a_failure_that_unit_and_request_both_see_counts_once(
    ops_core: ScriptedOpsCore,
) -> None:
    async def work() -> None:
        async with track("drawing"):
            raise ValueError("no ink")

    agent = doing(work, ops_core)
    with pytest.raises(ValueError):
        await Exchange().run(agent)
    reports = await reported(ops_core, "active", "error")
    assert reports[1]["details"]["error"] == {
        "type": "ValueError",
        "message": "no ink",
        "where": "drawing",
    }


async def test_a_failure_that_the_app_hides_behind_a_200_is_told(
    ops_core: ScriptedOpsCore,
) -> None:
    async def work() -> None:
        try:
            async with track("drawing"):
                raise ValueError("no ink")
        except ValueError:
            pass

    agent = doing(work, ops_core)
    assert (await Exchange().run(agent)).status == 200
    await reported(ops_core, "active", "error")


async def test_cancelled_work_is_no_failure(ops_core: ScriptedOpsCore) -> None:
    async def work() -> None:
        with anyio.move_on_after(0):
            async with track("forever"):
                await anyio.sleep_forever()

    agent = doing(work, ops_core)
    await Exchange().run(agent)
    await reported(ops_core, "active", "idle")


async def test_the_trace_of_a_unit_is_told_where_there_is_one(ops_core: ScriptedOpsCore) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    seen: list[str] = []

    async def work() -> None:
        with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
            seen.append(f"{span.get_span_context().trace_id:032x}")
            with pytest.raises(ValueError), track("drawing"):
                raise ValueError("no ink")

    agent = doing(work, ops_core)
    await Exchange().run(agent)
    error = (await reported(ops_core, "active", "error"))[1]["details"]["error"]
    assert error["trace_id"] == seen[0]


# --- beyond the request --------------------------------------------------------------------------


async def test_a_unit_that_outlives_its_request_keeps_the_agent_active(
    ops_core: ScriptedOpsCore,
) -> None:
    go_on, opened = anyio.Event(), anyio.Event()

    async def outlives() -> None:
        async with track("job"):
            opened.set()
            await go_on.wait()

    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            tasks.start_soon(outlives)
            await opened.wait()

        agent = doing(work, ops_core)
        await Exchange().run(agent)
        assert agent.state is AgentState.ACTIVE
        go_on.set()
    await reported(ops_core, "active", "idle")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_unit_that_begins_after_its_request_counts_all_the_same(
    fails: bool, ops_core: ScriptedOpsCore
) -> None:
    go_on = anyio.Event()

    async def later() -> None:
        await go_on.wait()
        for _ in range(2):
            try:
                async with track("job"):
                    assert agent.state is AgentState.ACTIVE
                    if fails:
                        raise ValueError("no ink")
            except ValueError:
                pass

    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            tasks.start_soon(later)

        agent = doing(work, ops_core)
        await Exchange().run(agent)
        assert agent.state is AgentState.IDLE
        go_on.set()
    await reported(ops_core, "active", "idle", *["active", "error" if fails else "idle"] * 2)
    await Exchange().run(doing_nothing_more(agent))
    assert agent._tracker.in_flight == 0


def doing_nothing_more(agent: OpsCoreMiddleware) -> OpsCoreMiddleware:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert agent._tracker.in_flight == 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    agent.app = app
    return agent


def served_by_a_worker(work: Callable[[Any], Any], ops_core: ScriptedOpsCore) -> Any:
    """Return an app whose requests put a job into a queue that a task of the lifespan empties."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        app.state.put, jobs = anyio.create_memory_object_stream[int](10)

        async def worker() -> None:
            async for job in jobs:
                await work(job)

        async with anyio.create_task_group() as tasks, app.state.put, jobs:
            tasks.start_soon(worker)
            yield
            tasks.cancel_scope.cancel()

    async def put(request: Request) -> PlainTextResponse:
        request.app.state.put.send_nowait(1)
        return PlainTextResponse("accepted", 202)

    app = Starlette(routes=[Route("/", put, methods=["POST"])], lifespan=lifespan)
    app.add_middleware(
        OpsCoreMiddleware, api_url=URL, agent_name="tested", transport=ops_core.transport
    )
    return app


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_worker_born_in_the_lifespan_makes_the_agent_active(
    backend: Any, ops_core: ScriptedOpsCore
) -> None:
    go_on = threading.Event()

    async def work(job: int) -> None:
        async with track("job"):
            await anyio.to_thread.run_sync(go_on.wait, 10)

    # Another agent in the process, so that only the lifespan can tell whose work it is.
    other = TestClient(watched(Starlette(), ScriptedOpsCore()))
    other.post("/")
    with TestClient(served_by_a_worker(work, ops_core), backend=backend) as client:
        assert client.post("/").status_code == 202
        wait_until(lambda: ops_core.states[-1:] == ["active"])
        go_on.set()
        wait_until(lambda: ops_core.states[-1:] == ["idle"])
    assert ops_core.states[-2:] == ["draining", "finished"]


# --- threads and loops of others -----------------------------------------------------------------


async def test_a_thread_without_a_context_finds_the_only_agent(
    ops_core: ScriptedOpsCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, go_on = threading.Event(), threading.Event()

    def job() -> None:
        with track("job"):
            opened.set()
            go_on.wait(10)

    async def nothing() -> None:
        pass

    agent = doing(nothing, ops_core)
    await Exchange().run(agent)
    # Agents of earlier tests may not have been collected yet.
    monkeypatch.setattr(runtime_module, "_running", {agent._runtime})
    assert only_runtime() is agent._runtime
    thread = threading.Thread(target=contextvars.Context().run, args=(job,))
    thread.start()
    await anyio.to_thread.run_sync(opened.wait, 10)
    assert agent.state is AgentState.ACTIVE
    go_on.set()
    await anyio.to_thread.run_sync(thread.join)
    await reported(ops_core, "active", "idle", "active", "idle")


def test_work_in_an_executor_finds_the_only_agent(
    ops_core: ScriptedOpsCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job() -> AgentState:
        with track("job"):
            return agent.state

    async def work() -> None:
        states.append(await asyncio.get_running_loop().run_in_executor(None, job))

    states: list[AgentState] = []
    agent = doing(work, ops_core)
    monkeypatch.setattr(runtime_module, "_running", {agent._runtime})
    asyncio.run(_run(Exchange(), agent))
    assert states == [AgentState.ACTIVE]
    ops_core.wait_for("active", "idle")


async def _run(exchange: Exchange, agent: OpsCoreMiddleware) -> None:
    await exchange.run(agent)


async def test_of_two_agents_the_one_that_is_asked_works(ops_core: ScriptedOpsCore) -> None:
    """An agent that asks another one in this process goes on with work of its own."""
    others = ScriptedOpsCore()
    other = doing(in_a_block, others)
    inside: list[AgentState] = []

    async def work() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(other)) as client:
            await client.post("http://other/job")
        async with track("what follows"):
            inside.append(other.state)

    agent = doing(work, ops_core)
    await Exchange().run(agent)
    assert inside == [AgentState.IDLE]
    await reported(others, "active", "idle")
    await reported(ops_core, "active", "idle")


# --- nothing is left open ------------------------------------------------------------------------


async def test_an_abandoned_coroutine_ends_its_unit(ops_core: ScriptedOpsCore) -> None:
    kept: list[Any] = []

    class Never:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def abandoned() -> None:
        async with track("abandoned"):
            await Never()

    async def work() -> None:
        kept.append(abandoned())
        kept[0].send(None)

    agent = doing(work, ops_core)
    await Exchange().run(agent)
    assert agent.state is AgentState.ACTIVE
    kept.clear()
    gc.collect()
    await reported(ops_core, "active", "idle")


async def test_units_of_threads_that_race_with_the_end_of_their_request_all_end(
    ops_core: ScriptedOpsCore,
) -> None:
    threads: list[threading.Thread] = []

    def job() -> None:
        for _ in range(3):
            with track("job"):
                pass

    async def work() -> None:
        for _ in range(2):
            run = contextvars.copy_context().run
            threads.append(threading.Thread(target=run, args=(job,)))
            threads[-1].start()

    agent = doing(work, ops_core)
    for _ in range(200):
        await Exchange().run(agent)
    for thread in threads:
        thread.join()
    assert agent._tracker.in_flight == 0
    assert agent.state is AgentState.IDLE


async def test_a_redact_that_fails_leaves_nothing_open(
    ops_core: ScriptedOpsCore, caplog: pytest.LogCaptureFixture
) -> None:
    def redact(details: dict[str, Any]) -> dict[str, Any]:
        details["error"] = "gone"
        raise KeyError("redact")

    async def work() -> None:
        with track("drawing"):
            raise ValueError("no ink")

    agent = doing(work, ops_core, redact=redact)
    with pytest.raises(ValueError):
        await Exchange().run(agent)
    assert agent._tracker.in_flight == 0
    error = (await reported(ops_core, "active", "error"))[1]["details"]["error"]
    assert error == {"type": "ValueError", "message": "<withheld: redact failed>"}
    assert "raised KeyError" in caplog.text
