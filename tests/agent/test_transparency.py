"""What passes through is the same with us as without us: messages, exceptions and context."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from opscore_middleware import AgentState, OpsCoreMiddleware
from tests.agent.support import ScriptedOpsCore, watched

App = Callable[[Any, Any, Any], Awaitable[None]]
BODY = b'{"jsonrpc": "2.0", "method": "message/send", "id": 1}'


class Recorder:
    """A server that serves one request from a script and writes everything down."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = list(messages)
        self.seen: list[Any] = []

    async def receive(self) -> Any:
        await anyio.lowlevel.checkpoint()
        message = self._messages.pop(0) if self._messages else {"type": "http.disconnect"}
        self.seen.append(("received", dict(message)))
        return message

    async def send(self, message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self.seen.append(("sent", dict(message)))

    async def serve(self, app: App, scope: dict[str, Any]) -> list[Any]:
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            self.seen.append(("raised", type(error), str(error)))
        return self.seen


router = APIRouter()


def agent() -> FastAPI:
    """Return an app that answers in every way that matters here."""
    app = FastAPI()
    app.include_router(router)
    return app


@router.post("/echo")
async def echo(request: Request) -> Any:
    return await request.json()


@router.post("/chunks")
async def chunks(request: Request) -> StreamingResponse:
    return StreamingResponse(request.stream(), headers={"x-a": "1"})


@router.post("/events")
async def events() -> StreamingResponse:
    parts = ["event: error\n", 'data: {"error": 1}\n\n', ""]
    return StreamingResponse(iter(parts), media_type="text/event-stream")


@router.post("/torn")
async def torn() -> StreamingResponse:
    async def stream() -> Any:
        yield b"some"
        raise ValueError("torn")

    return StreamingResponse(stream())


@router.post("/background")
async def background(tasks: BackgroundTasks) -> str:
    tasks.add_task(lambda: None)
    return "accepted"


@router.post("/upload")
async def upload(request: Request) -> int:
    return len(await request.body())


@router.api_route("/fail", methods=["GET", "POST"])
async def fail() -> None:
    raise ValueError("no ink")


@router.get("/read")
async def read() -> str:
    return "fine"


@router.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


def request(
    path: str, *parts: bytes, method: str = "POST", content_type: bytes = b"application/json"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", content_type)],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    body = [
        {"type": "http.request", "body": part, "more_body": n < len(parts)}
        for n, part in enumerate(parts, 1)
    ]
    return scope, body


EXCHANGES = {
    "success": request("/echo", BODY),
    "body in parts": request("/echo", BODY[:7], BODY[7:9], b"", BODY[9:]),
    "bad json": request("/echo", b"{"),
    "streaming both ways": request("/chunks", *[b"%d," % n for n in range(50)]),
    "events": request("/events", b"{}"),
    "client leaves": request("/chunks", b"a", b"b"),
    "failure": request("/fail", b""),
    "failing read": request("/fail", b"", method="GET"),
    "failure after the start": request("/torn", b""),
    "background": request("/background", b""),
    "read": request("/read", b"", method="GET"),
    "head": request("/read", b"", method="HEAD"),
    "options": request("/read", b"", method="OPTIONS"),
    "not found": request("/nowhere", b"{}"),
    "upload": request("/upload", *[b"x" * 9000] * 20, content_type=b"image/png"),
}
EXCHANGES["client leaves"][1][-1] = {"type": "http.disconnect"}


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.anyio
async def test_the_server_sees_the_same_messages_with_us_as_without(
    exchange: str, ops_core: ScriptedOpsCore
) -> None:
    scope, body = EXCHANGES[exchange]
    bare = await Recorder(*body).serve(agent(), dict(scope))
    wrapped = await Recorder(*body).serve(watched(agent(), ops_core), dict(scope))
    assert wrapped == bare
    added = agent()
    added.add_middleware(
        OpsCoreMiddleware,
        api_url="http://ops-core.test",
        agent_name="tested",
        transport=ops_core.transport,
    )
    assert await Recorder(*body).serve(added, dict(scope)) == bare


@pytest.mark.anyio
async def test_websockets_pass_unchanged(ops_core: ScriptedOpsCore) -> None:
    scope, _ = request("/socket")
    scope |= {"type": "websocket", "scheme": "ws", "subprotocols": []}
    messages = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hello"},
        {"type": "websocket.disconnect", "code": 1000},
    ]
    bare = await Recorder(*messages).serve(agent(), dict(scope))
    wrapped = await Recorder(*messages).serve(watched(agent(), ops_core), dict(scope))
    assert wrapped == bare
    assert ("sent", {"type": "websocket.send", "text": "hello"}) in bare


@pytest.mark.anyio
async def test_scopes_that_nobody_knows_yet_pass_unchanged(ops_core: ScriptedOpsCore) -> None:
    seen: list[Any] = []

    async def app(*call: Any) -> None:
        seen.append(call)

    scope, receive, send = {"type": "webtransport"}, object(), object()
    await watched(app, ops_core)(scope, receive, send)  # type: ignore[arg-type]
    assert seen == [(scope, receive, send)]
    assert ops_core.calls == []


def outcome(app: App, scope: dict[str, Any]) -> BaseException:
    """Run an app that neither receives nor sends, and return what it raises, without its frames."""
    call: Any = app(scope, None, None)
    try:
        call.send(None)
    except BaseException as error:
        return error.with_traceback(None)
    raise AssertionError("it raised nothing")


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("no"),
        lambda: KeyboardInterrupt(),
        lambda: SystemExit(3),
        lambda: asyncio.CancelledError("why"),
        lambda: ExceptionGroup("two", [ValueError("no"), OSError("no")]),
    ],
    ids=["ValueError", "KeyboardInterrupt", "SystemExit", "CancelledError", "ExceptionGroup"],
)
def test_an_exception_comes_out_as_the_object_it_is(
    make: Callable[[], BaseException], method: str, ops_core: ScriptedOpsCore
) -> None:
    raised = make()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise raised

    seen = outcome(watched(app, ops_core), {"type": "http", "method": method, "path": "/"})
    assert seen is raised
    assert raised.__cause__ is None
    assert raised.__context__ is None


@pytest.mark.anyio
async def test_a_request_that_fails_while_it_is_cancelled_raises_the_same_and_ends(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        scope["cancel"]()
        raise ConnectionResetError("the client is gone")

    async def receive() -> Any:
        await anyio.sleep_forever()

    middleware = watched(app, ops_core)
    with anyio.CancelScope() as cancelled:
        scope = {"type": "http", "method": "POST", "path": "/", "cancel": cancelled.cancel}
        with pytest.raises(ConnectionResetError):
            await middleware(scope, receive, Recorder().send)
    assert middleware.state is not AgentState.ACTIVE


@pytest.mark.anyio
async def test_the_apps_context_variables_are_the_same(ops_core: ScriptedOpsCore) -> None:
    theirs: contextvars.ContextVar[str] = contextvars.ContextVar("theirs")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert theirs.get() == "outside"
        theirs.set("inside")

    theirs.set("outside")
    middleware = watched(app, ops_core)
    await middleware({"type": "http", "method": "POST", "path": "/"}, None, None)  # type: ignore[arg-type]
    assert theirs.get() == "inside"  # as with any plain await


def test_the_middleware_is_not_starlettes_base_class() -> None:
    assert not issubclass(OpsCoreMiddleware, BaseHTTPMiddleware)
