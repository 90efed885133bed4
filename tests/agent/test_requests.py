"""What requests make of the agent's state, on every framework and both event loops."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from opscore_middleware import AgentState, OpsCoreMiddleware
from tests.agent.support import URL, ScriptedOpsCore
from tests.support.waiting import wait_until

LIFE = ["initializing", "idle"]
END = ["draining", "finished"]

Build = Callable[[ScriptedOpsCore], Any]


def settings(ops_core: ScriptedOpsCore, **more: Any) -> dict[str, Any]:
    return {"api_url": URL, "agent_name": "tested", "transport": ops_core.transport, **more}


def fastapi_app(ops_core: ScriptedOpsCore) -> Any:
    app = FastAPI()
    app.add_middleware(OpsCoreMiddleware, **settings(ops_core))

    @app.post("/job")
    async def work() -> str:
        return "done"

    @app.post("/fail/{item}")
    async def fail(item: str) -> None:
        raise ValueError("no ink")

    return app


def starlette_app(ops_core: ScriptedOpsCore) -> Any:
    async def work(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("done")

    async def fail(_request: Request) -> None:
        raise ValueError("no ink")

    return Starlette(
        routes=[
            Route("/job", work, methods=["POST"]),
            Route("/fail/{item}", fail, methods=["POST"]),
        ],
        middleware=[Middleware(OpsCoreMiddleware, **settings(ops_core))],
    )


def bare_app(ops_core: ScriptedOpsCore) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{step}"
                await send({"type": f"lifespan.{step}.complete"})
            return
        if scope["path"].startswith("/fail"):
            raise ValueError("no ink")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    return OpsCoreMiddleware(app, **settings(ops_core))


@pytest.fixture(params=[fastapi_app, starlette_app, bare_app], ids=lambda f: f.__name__)
def build(request: pytest.FixtureRequest) -> Any:
    """Return what builds an app: pytest would keep a built one alive beyond its test."""
    return request.param


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_life_is_told_from_start_to_end(
    build: Build, backend: Any, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(build(ops_core), backend=backend, raise_server_exceptions=False) as client:
        assert client.post("/job").status_code == 200
        assert client.post("/fail/1").status_code == 500
        ops_core.wait_for(*LIFE, "active", "idle", "active", "error")
    reports = ops_core.wait_for(*LIFE, "active", "idle", "active", "error", *END)
    assert reports[5]["details"]["error"]["type"] == "ValueError"
    assert reports[5]["details"]["error"]["message"] == "no ink"
    assert [r["sequence"] for r in reports] == list(range(1, 9))


def test_without_a_lifespan_a_request_still_tells(
    build: Build, backend: Any, ops_core: ScriptedOpsCore
) -> None:
    assert TestClient(build(ops_core), backend=backend).post("/job").status_code == 200
    ops_core.wait_for("active", "idle")


def test_without_a_lifespan_a_read_tells_that_the_agent_is_ready(
    build: Build, ops_core: ScriptedOpsCore
) -> None:
    TestClient(build(ops_core)).get("/job")
    ops_core.wait_for("idle")


def test_the_route_and_not_the_path_is_told(ops_core: ScriptedOpsCore) -> None:
    TestClient(fastapi_app(ops_core), raise_server_exceptions=False).post("/fail/jane@example.com")
    error = ops_core.wait_for("active", "error")[1]["details"]["error"]
    assert error["where"] == "POST /fail/{item}"


@contextmanager
def served(app: Any, ops_core: ScriptedOpsCore, **more: Any) -> Iterator[TestClient]:
    """Serve a Starlette or FastAPI app with the middleware added."""
    app.add_middleware(OpsCoreMiddleware, **settings(ops_core, **more))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("how", ["raises", "returns", "http_exception"])
def test_each_way_to_answer_with_a_5xx_is_one_error(how: str, ops_core: ScriptedOpsCore) -> None:
    app = FastAPI()

    @app.post("/job")
    async def work() -> Any:
        if how == "raises":
            raise ValueError("no")
        if how == "http_exception":
            raise HTTPException(503)
        return PlainTextResponse("no", 500)

    with served(app, ops_core) as client:
        assert client.post("/job").status_code >= 500
        ops_core.wait_for(*LIFE, "active", "error")


def test_a_4xx_is_the_callers_fault(ops_core: ScriptedOpsCore) -> None:
    app = FastAPI()

    @app.post("/job/{n}")
    async def work(n: int) -> None:
        raise HTTPException(409)

    with served(app, ops_core) as client:
        client.post("/job/x")
        client.post("/job/1")
        client.post("/nowhere")
        client.put("/job/1")
        ops_core.wait_for(*LIFE, *["active", "idle"] * 4)


def test_a_failure_after_the_response_began_is_one_error(ops_core: ScriptedOpsCore) -> None:
    app = FastAPI()

    @app.post("/job")
    async def work() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"some"
            raise ValueError("torn")

        return StreamingResponse(chunks())

    with served(app, ops_core) as client:
        answer = client.post("/job")
        assert (answer.status_code, answer.content) == (200, b"some")
        ops_core.wait_for(*LIFE, "active", "error")


def test_background_tasks_belong_to_their_request(ops_core: ScriptedOpsCore) -> None:
    app, go_on, answered = FastAPI(), threading.Event(), threading.Event()

    @app.post("/job")
    async def work(background: BackgroundTasks) -> str:
        def task() -> None:
            answered.set()
            go_on.wait(10)
            raise ValueError("late")

        background.add_task(task)
        return "accepted"

    with served(app, ops_core) as client:
        request = threading.Thread(target=client.post, args=("/job",))
        request.start()
        assert answered.wait(10)
        ops_core.wait_for(*LIFE, "active")
        go_on.set()
        request.join()
        reports = ops_core.wait_for(*LIFE, "active", "error")
        assert reports[3]["details"]["error"]["message"] == "late"


def test_thousands_of_chunks_make_two_reports(ops_core: ScriptedOpsCore) -> None:
    app = FastAPI()

    @app.post("/job")
    async def work() -> StreamingResponse:
        return StreamingResponse((b"x" for _ in range(5_000)), media_type="text/event-stream")

    with served(app, ops_core) as client:
        assert len(client.post("/job").content) == 5_000
    ops_core.wait_for(*LIFE, "active", "idle", *END)


def test_probes_and_short_reads_make_no_report(ops_core: ScriptedOpsCore) -> None:
    app = FastAPI()

    @app.api_route("/health", methods=["GET", "HEAD", "OPTIONS"])
    async def health() -> str:
        return "fine"

    with served(app, ops_core) as client:
        for _ in range(334):
            client.get("/health")
            client.head("/health")
            client.options("/health")
    ops_core.wait_for(*LIFE, *END)


def test_a_read_that_lasts_is_work_and_one_that_fails_is_told(ops_core: ScriptedOpsCore) -> None:
    app, go_on = FastAPI(), threading.Event()

    @app.get("/slow")
    def slow() -> None:
        go_on.wait(10)

    @app.get("/fail")
    async def fail() -> None:
        raise ValueError("no")

    with served(app, ops_core, read_grace=0.01) as client:
        request = threading.Thread(target=client.get, args=("/slow",))
        request.start()
        ops_core.wait_for(*LIFE, "active")
        go_on.set()
        request.join()
        ops_core.wait_for(*LIFE, "active", "idle")
        client.get("/fail")
        ops_core.wait_for(*LIFE, "active", "idle", "error")


def test_listening_to_events_is_not_work(ops_core: ScriptedOpsCore) -> None:
    app, go_on, started = FastAPI(), threading.Event(), threading.Event()

    @app.get("/events")
    async def events() -> StreamingResponse:
        def stream() -> Iterator[bytes]:
            started.set()
            go_on.wait(10)
            yield b"data: 1\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    with served(app, ops_core, read_grace=0) as client:
        request = threading.Thread(target=client.get, args=("/events",))
        request.start()
        assert started.wait(10)
        client.post("/elsewhere")  # what would have been told before this is told
        wait_until(lambda: ops_core.states[-2:] == ["active", "idle"])
        go_on.set()
        request.join()
    assert ops_core.states[-3:] == ["idle", *END]


def test_paths_and_methods_can_be_chosen(ops_core: ScriptedOpsCore) -> None:
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "HEAD"])
    async def anything(path: str) -> str:
        return path

    choice = {"include": ["/chat"], "exclude": ["/poll*"], "methods": ["PUT"]}
    with served(app, ops_core, **choice) as client:
        client.post("/job")
        client.put("/poll/1")
        client.head("/chat")
        ops_core.wait_for(*LIFE)
        client.get("/chat")
        client.put("/job")
    ops_core.wait_for(*LIFE, *["active", "idle"] * 2, *END)


@pytest.mark.parametrize("root", ["/api", "/api/"])
@pytest.mark.parametrize(
    ("pattern", "path"),
    [("/poll*", "/poll/1"), ("/poll*", "/api/poll/1"), ("/api/poll*", "/api/poll/1")],
)
def test_paths_are_chosen_with_and_without_the_root_path(
    root: str, pattern: str, path: str, ops_core: ScriptedOpsCore
) -> None:
    """Some servers put it before the path that a proxy has cut it from, and others do not."""
    app = FastAPI()
    app.add_middleware(OpsCoreMiddleware, exclude=[pattern], **settings(ops_core))

    @app.post("/poll/{job}")
    async def poll(job: int) -> int:
        return job

    with TestClient(app, root_path=root) as client:
        client.post(path)
    ops_core.wait_for(*LIFE, *END)


def test_the_middleware_added_twice_reports_once(ops_core: ScriptedOpsCore) -> None:
    app = starlette_app(ops_core)
    app.add_middleware(OpsCoreMiddleware, **settings(ops_core))
    with TestClient(app) as client:
        client.post("/job")
    ops_core.wait_for(*LIFE, "active", "idle", *END)


def test_a_mounted_app_is_counted_once_with_its_root_and_works_alone(
    ops_core: ScriptedOpsCore,
) -> None:
    inner = starlette_app(ops_core)
    outer = Starlette(
        routes=[Mount("/inner", inner)],
        middleware=[Middleware(OpsCoreMiddleware, **settings(ops_core))],
    )
    with TestClient(outer) as client:
        client.post("/inner/job")
    ops_core.wait_for(*LIFE, "active", "idle", *END)
    ops_core.reports.clear()
    with TestClient(Starlette(routes=[Mount("/inner", inner)])) as client:
        client.post("/inner/job")
        ops_core.wait_for("active", "idle")


def test_without_an_address_the_agent_is_tracked_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(middleware.state)
        await PlainTextResponse("done")(scope, receive, send)

    seen: list[AgentState] = []
    middleware = OpsCoreMiddleware(app)
    for _ in range(2):
        assert TestClient(middleware).post("/job").status_code == 200
    assert seen == [AgentState.ACTIVE] * 2
    assert middleware.state is AgentState.IDLE
    assert middleware.agent_id is None
    [record] = [r for r in caplog.records if r.name == "opscore_middleware"]
    assert "OPSCORE_API_URL is not set" in record.getMessage()


def test_requests_go_on_while_ops_core_is_slow(ops_core: ScriptedOpsCore) -> None:
    answering = threading.Event()

    def slow(call: Any) -> httpx.Response | None:
        answering.wait(10)
        return None

    ops_core.script = slow
    with TestClient(fastapi_app(ops_core)) as client:
        for _ in range(100):
            assert client.post("/job").status_code == 200
        assert ops_core.states == []
        answering.set()
        wait_until(lambda: ops_core.states[:3] == [*LIFE, "active"])
