"""Whatever an app does with its messages, and from wherever, it and the server see the same."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from opscore_middleware import AgentState, OpsCoreMiddleware
from tests.agent.support import ScriptedOpsCore, watched
from tests.agent.test_transparency import Recorder

App = Callable[[Any, Any, Any], Awaitable[None]]


@pytest.fixture
def ops_core() -> ScriptedOpsCore:
    return ScriptedOpsCore()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def start(**fields: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": [], **fields}


class Once:
    """Headers that can be read a single time, as some servers and apps hand them on."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self._headers = iter(headers)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._headers


JSON = (b"content-type", b"application/json")
RESPONSES: dict[str, list[dict[str, Any]]] = {
    "a file by its path": [start(), {"type": "http.response.pathsend", "path": "/etc/hostname"}],
    "a file by its descriptor": [
        start(),
        {"type": "http.response.zerocopysend", "file": 0, "more_body": False},
    ],
    "trailers": [
        start(trailers=True),
        {"type": "http.response.body", "body": b"{}", "more_body": False},
        {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False},
    ],
    "an early hint": [
        {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]},
        start(),
        {"type": "http.response.body", "body": b"done"},
    ],
    "debug information": [
        {"type": "http.response.debug", "info": {"template": "x"}},
        start(),
        {"type": "http.response.body", "body": b"done"},
    ],
}


@pytest.mark.anyio
@pytest.mark.parametrize("response", RESPONSES)
async def test_extensions_of_responses_pass_and_end_well(
    response: str, ops_core: ScriptedOpsCore
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in RESPONSES[response]:
            await send(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [JSON]}
    bare = await Recorder().serve(app, dict(scope))
    assert await Recorder().serve(watched(app, ops_core), dict(scope)) == bare
    ops_core.wait_for("active", "idle")


@pytest.mark.anyio
async def test_headers_that_can_be_read_once_are_left_for_who_needs_them(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert list(scope["headers"]) == [JSON]
        assert (await receive())["body"] == b'{"method": "ping"}'
        await send(start(headers=Once(JSON, (b"x-a", b"1"))))
        await send({"type": "http.response.body", "body": b'{"error": 1}'})

    server = Recorder({"type": "http.request", "body": b'{"method": "ping"}'})
    scope = {"type": "http", "method": "POST", "path": "/", "headers": Once(JSON)}
    seen = await server.serve(watched(app, ops_core), scope)
    [started] = [message for kind, message in seen if message["type"] == "http.response.start"]
    assert list(started["headers"]) == [JSON, (b"x-a", b"1")]
    ops_core.wait_for("active", "idle")


@pytest.mark.anyio
async def test_a_refused_websocket_may_be_answered_as_a_request_is(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    scope = {"type": "websocket", "path": "/", "headers": []}
    bare = await Recorder({"type": "websocket.connect"}).serve(app, dict(scope))
    wrapped = Recorder({"type": "websocket.connect"})
    assert await wrapped.serve(watched(app, ops_core), dict(scope)) == bare
    assert ops_core.states == []


PARTS = [b'{"method": ', b'"message/send", ', b'"id": 1}']


def parts() -> list[dict[str, Any]]:
    return [
        {"type": "http.request", "body": part, "more_body": n < len(PARTS)}
        for n, part in enumerate(PARTS, 1)
    ]


@pytest.mark.trap("35d")
@pytest.mark.anyio
async def test_an_app_that_listens_for_the_end_while_it_works_hears_of_it(
    ops_core: ScriptedOpsCore,
) -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while not body.endswith(b"}"):
            body += (await receive())["body"]
        assert body == b"".join(PARTS)
        gone = anyio.Event()

        async def listen() -> None:
            heard.append((await receive())["type"])
            gone.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await send(start())
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
            await gone.wait()

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [JSON]}
    seen = await Recorder(*parts()).serve(watched(app, ops_core), scope)
    assert heard == ["http.disconnect"]
    assert [message["type"] for kind, message in seen if kind == "received"] == [
        *["http.request"] * 3,
        "http.disconnect",
    ]
    ops_core.wait_for("active", "idle")  # the client left; nothing failed


@pytest.mark.trap("35d")
def test_an_app_that_works_in_another_threads_loop_gets_every_message(
    ops_core: ScriptedOpsCore,
) -> None:
    """As agents do that keep a loop of their own for their model and bring messages over."""
    theirs = asyncio.new_event_loop()
    thread = threading.Thread(target=theirs.run_forever)
    thread.start()
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        servers = asyncio.get_running_loop()

        async def work() -> None:
            def there(call: Any) -> Any:
                return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, servers))

            while not got or got[-1]["type"] != "http.disconnect":
                got.append(await there(receive()))
            await there(_awaited(send(start())))
            await there(_awaited(send({"type": "http.response.body", "body": b"done"})))

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), theirs))

    try:
        server = Recorder(*parts())
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [JSON]}
        seen = asyncio.run(server.serve(watched(app, ops_core), scope))
    finally:
        theirs.call_soon_threadsafe(theirs.stop)
        thread.join()
        theirs.close()
    assert got == [*parts(), {"type": "http.disconnect"}]
    assert [message["type"] for kind, message in seen if kind == "sent"] == [
        "http.response.start",
        "http.response.body",
    ]
    ops_core.wait_for("active", "idle")


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable


CHUNK = bytes(range(256)) * 256
CHUNKS = 3200  # of 64 KiB: 200 MiB


@pytest.mark.trap("26")
@pytest.mark.parametrize("kind", [b"application/octet-stream", b"application/json"])
def test_an_upload_of_200_mb_passes_as_it_is_in_flat_memory_and_never_ahead_of_the_app(
    kind: bytes, ops_core: ScriptedOpsCore
) -> None:
    sum_, asked, given = hashlib.sha256(), 0, 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        more = True
        while more:
            assert given == asked  # nobody has read what the app has not asked for
            asked += 1
            message = await receive()
            sum_.update(message["body"])
            more = message["more_body"]
        await send(start())
        await send({"type": "http.response.body", "body": b"done"})

    async def receive() -> Any:
        nonlocal given
        given += 1
        return {"type": "http.request", "body": CHUNK, "more_body": given < CHUNKS}

    async def send(message: Any) -> None:
        pass

    middleware = watched(app, ops_core)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", kind)]}
    tracemalloc.start()
    try:
        asyncio.run(middleware(scope, receive, send))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert given == asked == CHUNKS
    assert sum_.digest() == hashlib.sha256(CHUNK * CHUNKS).digest()
    assert peak < 2_000_000
    ops_core.wait_for("active", "idle")


@pytest.mark.trap("30")
@pytest.mark.parametrize("kind", ["http", "websocket", "lifespan"])
def test_the_context_of_the_server_is_left_as_it_was(kind: str, ops_core: ScriptedOpsCore) -> None:
    """What we set for the app goes with the call, also where a server reuses its context."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if kind == "http":
            await send(start())
            await send({"type": "http.response.body", "body": b"done"})

    async def send(message: Any) -> None:
        pass

    async def serve(middleware: OpsCoreMiddleware) -> None:
        before = dict(contextvars.copy_context())
        for _ in range(3):
            await middleware({"type": kind, "method": "POST", "path": "/"}, None, send)  # type: ignore[arg-type]
        assert dict(contextvars.copy_context()) == before

    middleware = watched(app, ops_core)
    asyncio.run(serve(middleware))
    assert middleware.state is not AgentState.ACTIVE
