"""Websockets: an open one is no work; what is done about a message is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from opscore_middleware import AgentState, OpsCoreMiddleware, track
from tests.agent.exchange import reported
from tests.agent.support import URL, ScriptedOpsCore, watched
from tests.support.waiting import wait_until

LIFE = ["initializing", "idle"]
END = ["draining", "finished"]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def serving(
    endpoint: Callable[[WebSocket], Awaitable[None]], ops_core: ScriptedOpsCore, **settings: Any
) -> Starlette:
    """Return an app with one websocket route, `/talk/{topic}`."""
    app = Starlette(routes=[WebSocketRoute("/talk/{topic}", endpoint)])
    app.add_middleware(
        OpsCoreMiddleware,
        api_url=URL,
        agent_name="tested",
        transport=ops_core.transport,
        **settings,
    )
    return app


def say_hello(client: TestClient, path: str) -> str:
    with client.websocket_connect(path) as socket:
        socket.send_text("hello")
        return socket.receive_text()


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


def test_each_message_is_work_and_an_open_socket_is_not(
    backend: Any, ops_core: ScriptedOpsCore
) -> None:
    with (
        TestClient(serving(echo, ops_core), backend=backend) as client,
        client.websocket_connect("/talk/ink") as socket,
    ):
        for text in ("one", "two"):
            socket.send_text(text)
            assert socket.receive_text() == text
            wait_until(lambda: ops_core.states[-1:] == ["idle"])
    ops_core.wait_for(*LIFE, *["active", "idle"] * 2, *END)


def test_a_connection_can_be_one_piece_of_work(backend: Any, ops_core: ScriptedOpsCore) -> None:
    app = serving(echo, ops_core, websockets="connection")
    with TestClient(app, backend=backend) as client:
        with client.websocket_connect("/talk/ink") as socket:
            for text in ("one", "two"):
                socket.send_text(text)
                assert socket.receive_text() == text
            ops_core.wait_for(*LIFE, "active")
        ops_core.wait_for(*LIFE, "active", "idle")


def test_websockets_can_be_left_out(backend: Any, ops_core: ScriptedOpsCore) -> None:
    app = serving(echo, ops_core, websockets="never")
    with (
        TestClient(app, backend=backend) as client,
        client.websocket_connect("/talk/ink") as socket,
    ):
        socket.send_text("one")
        assert socket.receive_text() == "one"
    ops_core.wait_for(*LIFE, *END)


@pytest.mark.parametrize("websockets", ["message", "connection"])
def test_a_failing_message_is_one_failure_with_its_route(
    websockets: str, backend: Any, ops_core: ScriptedOpsCore
) -> None:
    async def fails(socket: WebSocket) -> None:
        await socket.accept()
        async with track("drawing"):
            await socket.receive_text()
        raise OSError("the ink file is missing")  # the app's own: the client is still there

    app = serving(fails, ops_core, websockets=websockets)
    with TestClient(app, backend=backend) as client:
        with pytest.raises(OSError):
            say_hello(client, "/talk/jane@example.com?key=secret")
        wait_until(lambda: "error" in ops_core.states)
        error = ops_core.reports[-1]["details"]["error"]
    assert error["message"] == "the ink file is missing"
    assert error["where"] == "/talk/{topic}"
    assert ops_core.states.count("error") == 1


def test_a_unit_that_fails_within_a_message_fails_it_once(
    backend: Any, ops_core: ScriptedOpsCore
) -> None:
    async def fails(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        async with track("drawing"):
            raise ValueError("no ink")

    with TestClient(serving(fails, ops_core), backend=backend) as client:
        with pytest.raises(ValueError):
            say_hello(client, "/talk/ink")
        reports = ops_core.wait_for(*LIFE, "active", "error")
    assert reports[-1]["details"]["error"]["where"] == "drawing"


def test_a_failure_that_the_app_survives_hides_no_later_one(
    backend: Any, ops_core: ScriptedOpsCore
) -> None:
    async def goes_on(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            try:
                with track(text):
                    raise ValueError(text)
            except ValueError:
                await socket.send_text("sorry")

    with TestClient(serving(goes_on, ops_core), backend=backend) as client:
        with client.websocket_connect("/talk/ink") as socket:
            for text in ("one", "two"):
                socket.send_text(text)
                assert socket.receive_text() == "sorry"
                wait_until(lambda: ops_core.states[-1:] == ["error"])
        reports = ops_core.wait_for(*LIFE, *["active", "error"] * 2)
    assert [r["details"]["error"]["message"] for r in reports[3::2]] == ["one", "two"]


def test_a_client_that_leaves_is_no_failure(backend: Any, ops_core: ScriptedOpsCore) -> None:
    async def strict(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        with pytest.raises(WebSocketDisconnect):
            await socket.receive_text()
        raise ValueError("nobody to talk to")

    with TestClient(serving(strict, ops_core), backend=backend) as client:
        with pytest.raises(ValueError), client.websocket_connect("/talk/ink") as socket:
            socket.send_text("hello")
        ops_core.wait_for(*LIFE, "active", "idle")


@pytest.mark.parametrize("websockets", ["message", "connection"])
@pytest.mark.parametrize(
    ("status", "states"), [(503, ["active", "error"]), (403, []), (404, [])], ids=str
)
def test_a_connection_that_the_app_denies_fails_as_a_request_would(
    status: int, states: list[str], websockets: str, backend: Any, ops_core: ScriptedOpsCore
) -> None:
    async def denies(socket: WebSocket) -> None:
        await socket.send_denial_response(Response("not now", status))

    app = serving(denies, ops_core, websockets=websockets)
    with TestClient(app, backend=backend) as client:
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect("/talk/ink"),
        ):
            pass
        assert denied.value.status_code == status
    reports = ops_core.wait_for(*LIFE, *states, *END)
    errors = [r["details"]["error"] for r in reports if r["state"] == "error"]
    assert [(error["type"], error["where"]) for error in errors] == [
        ("HTTP 503", "/talk/{topic}") for _ in states[1:]
    ]


# --- without a framework -------------------------------------------------------------------------


@pytest.fixture
def anyio_backend(backend: Any) -> str:
    return str(backend)


SCOPE = {"type": "websocket", "path": "/talk", "headers": []}


async def connect(agent: Any, *messages: dict[str, Any], send: Any = None) -> None:
    coming = [{"type": "websocket.connect"}, *messages]

    async def receive() -> dict[str, Any]:
        if not coming:
            await anyio.sleep_forever()
        return coming.pop(0)

    async def nothing(message: Any) -> None:
        pass

    await agent(dict(SCOPE), receive, send or nothing)


@pytest.mark.anyio
async def test_a_send_to_a_client_that_has_left_is_no_failure(ops_core: ScriptedOpsCore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        await send({"type": "websocket.send", "text": "late"})

    async def send(message: Any) -> None:
        raise OSError("gone")

    agent = watched(app, ops_core)
    with pytest.raises(OSError):
        await connect(agent, {"type": "websocket.receive", "text": "hello"}, send=send)
    await reported(ops_core, "active", "idle")


@pytest.mark.anyio
async def test_a_cancelled_connection_leaves_nothing_open(ops_core: ScriptedOpsCore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.accept"})  # a mistake, which must not count twice
        await anyio.sleep_forever()

    agent = watched(app, ops_core, websockets="connection")
    with anyio.move_on_after(0.01):
        await connect(agent)
    assert agent.state is AgentState.IDLE
    assert agent._tracker.in_flight == 0


@pytest.mark.anyio
async def test_work_tracked_in_a_message_may_outlive_it(ops_core: ScriptedOpsCore) -> None:
    go_on, opened = anyio.Event(), anyio.Event()

    async def job() -> None:
        async with track("job"):
            opened.set()
            await go_on.wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        async with anyio.create_task_group() as tasks:
            await receive()
            tasks.start_soon(job)
            await opened.wait()
            await receive()  # the message is over, its job is not
            states.append(agent.state)
            go_on.set()

    states: list[AgentState] = []
    agent = watched(app, ops_core)
    message = {"type": "websocket.receive", "text": "hello"}
    await connect(agent, message, {"type": "websocket.disconnect"})
    assert states == [AgentState.ACTIVE]
    await reported(ops_core, "active", "idle")
