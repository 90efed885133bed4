"""What of a request is work, told from its body, and how it ended, told from its response."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from opscore_middleware import AgentState, OpsCoreMiddleware
from tests.agent.exchange import JSON, Exchange, answering, doing, reported
from tests.agent.support import URL, ScriptedOpsCore, watched
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.anyio

LIFE = ["initializing", "idle"]
RPC_ERROR = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32050 + 100, "message": "no ink"}}
A2A_FAILED = {"jsonrpc": "2.0", "id": 1, "result": {"id": "t", "status": {"state": "failed"}}}
MCP_FAILED = {"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isError": True}}
AGUI_FAILED = {"type": "RUN_ERROR", "message": "no ink"}


async def nothing() -> None:
    pass


def call(method: str, **more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}, **more}).encode()


def rpc(*parts: bytes) -> Exchange:
    return Exchange(*parts, headers=JSON)


# --- JSON-RPC: what is work ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "tools/list", "notifications/initialized", "tasks/get"]
)
async def test_housekeeping_calls_are_no_work(method: str, ops_core: ScriptedOpsCore) -> None:
    agent = doing(nothing, ops_core)
    await rpc(call(method)).run(agent)
    await rpc(call("tools/call")).run(agent)
    await reported(ops_core, "active", "idle")
    assert ops_core.reports[0]["sequence"] == 1


@pytest.mark.parametrize("method", ["tools/call", "message/send", "SendMessage", "my/own"])
async def test_calls_that_ask_for_work_are_work(method: str, ops_core: ScriptedOpsCore) -> None:
    agent = doing(nothing, ops_core)
    await rpc(call(method)).run(agent)
    await reported(ops_core, "active", "idle")


async def test_a_call_is_known_from_the_first_part_of_its_body(ops_core: ScriptedOpsCore) -> None:
    states: list[AgentState] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            states.append(agent.state)
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    agent = watched(app, ops_core)
    body = call("message/send")
    await rpc(body[:-5], body[-5:]).run(agent)
    assert states == [AgentState.ACTIVE] * 2
    states.clear()
    body = call("tools/list")
    await rpc(body[:-5], body[-5:]).run(agent)
    assert states == [AgentState.IDLE] * 2


async def test_a_request_whose_body_nobody_reads_begins_with_its_answer(
    ops_core: ScriptedOpsCore,
) -> None:
    states: list[AgentState] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        states.append(agent.state)
        await send({"type": "http.response.start", "status": 401, "headers": []})
        states.append(agent.state)
        await send({"type": "http.response.body", "body": b""})

    agent = watched(app, ops_core, read_grace=100)
    await rpc(call("tools/list")).run(agent)
    assert states == [AgentState.UNKNOWN, AgentState.ACTIVE]
    await reported(ops_core, "active", "idle")


async def test_a_request_that_lasts_counts_before_its_body_is_read(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await wait_until_async(lambda: agent.state is AgentState.ACTIVE)
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    agent = watched(app, ops_core, read_grace=0.01)
    await rpc(call("message/send")).run(agent)
    await reported(ops_core, "active", "idle")


async def test_a_call_that_fails_before_its_body_is_read_is_told(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no ink")

    agent = watched(app, ops_core)
    with pytest.raises(ValueError):
        await rpc(call("message/send")).run(agent)
    await reported(ops_core, "error")


async def test_a_call_that_is_cancelled_before_its_body_is_read_leaves_nothing(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    agent = watched(app, ops_core, read_grace=0)
    with anyio.move_on_after(0.05):
        await rpc(call("message/send")).run(agent)
    assert agent._tracker.in_flight == 0
    assert not agent._tracker._reads


# --- failures inside a 200 -----------------------------------------------------------------------


FAILURES = pytest.mark.parametrize("said", [RPC_ERROR, A2A_FAILED, MCP_FAILED], ids=str)


@FAILURES
@pytest.mark.parametrize("size", [10, 10_000])
async def test_a_json_body_that_tells_of_a_failure_is_one(
    said: Any, size: int, ops_core: ScriptedOpsCore
) -> None:
    body = json.dumps(said).encode()
    agent = answering(ops_core, *(body[i : i + size] for i in range(0, len(body), size)))
    assert (await rpc(call("message/send")).run(agent)).body == body
    await reported(ops_core, "active", "error")


@pytest.mark.parametrize("said", [RPC_ERROR, A2A_FAILED, AGUI_FAILED], ids=str)
@pytest.mark.parametrize("size", [10, 10_000])
async def test_an_event_that_tells_of_a_failure_is_one(
    said: Any, size: int, ops_core: ScriptedOpsCore
) -> None:
    stream = b'data: {"delta": "a"}\n\ndata: ' + json.dumps(said).encode() + b"\n\ndata: 1\n\n"
    parts = (stream[i : i + size] for i in range(0, len(stream), size))
    agent = answering(ops_core, *parts, media="text/event-stream; charset=utf-8")
    assert (await rpc(call("message/stream")).run(agent)).body == stream
    await reported(ops_core, "active", "error")


async def test_somebodys_own_word_for_failure_is_none_of_ours(ops_core: ScriptedOpsCore) -> None:
    agent = answering(ops_core, b'{"status": "failed", "error": "no ink"}')
    await rpc(b"{}").run(agent)
    await reported(ops_core, "active", "idle")


async def test_the_caller_s_own_mistake_is_no_failure(ops_core: ScriptedOpsCore) -> None:
    said = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "what?"}}
    agent = answering(ops_core, json.dumps(said).encode())
    await rpc(call("my/own")).run(agent)
    await reported(ops_core, "active", "idle")


# --- responses that are not finished, and clients that leave -------------------------------------


async def half(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


async def test_a_response_that_is_never_finished_is_a_failure(ops_core: ScriptedOpsCore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await half(send)

    agent = watched(app, ops_core)
    await Exchange().run(agent)
    error = (await reported(ops_core, "active", "error"))[1]["details"]["error"]
    assert error["type"] == "ResponseUnfinished"


@pytest.mark.parametrize("asks", [True, False], ids=["seen by the app", "seen by nobody"])
async def test_a_response_whose_client_has_left_is_no_failure(
    asks: bool, ops_core: ScriptedOpsCore
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await half(send)
        if asks:
            await receive()

    agent = watched(app, ops_core)
    await Exchange(leaves=True).run(agent)
    await reported(ops_core, "active", "idle")


class Left(OSError):
    """What a server raises from `send` when the client has left."""


@pytest.mark.parametrize("error", [Left, ClientDisconnect])
async def test_what_a_send_raises_when_the_client_has_left_is_no_failure(
    error: type[Exception], ops_core: ScriptedOpsCore
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await half(send)
        raise error()

    agent = watched(app, ops_core)
    with pytest.raises(error):
        await Exchange(leaves=True).run(agent)
    await reported(ops_core, "active", "idle")


async def test_an_os_error_of_the_app_itself_is_a_failure(ops_core: ScriptedOpsCore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise FileNotFoundError("ink.txt")

    agent = watched(app, ops_core)
    with pytest.raises(FileNotFoundError):
        await Exchange().run(agent)
    await reported(ops_core, "active", "error")


async def test_a_client_that_leaves_without_a_pause_of_the_loop_is_seen(
    ops_core: ScriptedOpsCore,
) -> None:
    """As with servers that hand on messages through a queue, which is a pause on trio."""
    give, take = anyio.create_memory_object_stream[Any](5)
    give.send_nowait({"type": "http.request", "body": b"", "more_body": False})
    give.send_nowait({"type": "http.disconnect"})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise Left

    async def send(message: Any) -> None:
        pass

    agent = watched(app, ops_core)
    with give, take, pytest.raises(Left):
        await agent(Exchange().scope, take.receive, send)
    await reported(ops_core, "active", "idle")


async def test_a_body_that_is_repeated_for_ever_does_not_hold_the_loop(
    ops_core: ScriptedOpsCore,
) -> None:
    """Middleware that has read the body often puts such a `receive` in its place."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise FileNotFoundError("ink.txt")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        pass

    agent = watched(app, ops_core)
    with anyio.fail_after(5), pytest.raises(FileNotFoundError):
        await agent(Exchange().scope, receive, send)
    await reported(ops_core, "active", "error")


# --- what is chosen, and what is told ------------------------------------------------------------


def test_include_beats_event_streams(ops_core: ScriptedOpsCore) -> None:
    async def chat(_request: Request) -> StreamingResponse:
        return StreamingResponse(iter([b"data: 1\n\n"]), media_type="text/event-stream")

    app = Starlette(routes=[Route("/chat", chat), Route("/events", chat)])
    app.add_middleware(
        OpsCoreMiddleware,
        api_url=URL,
        agent_name="tested",
        transport=ops_core.transport,
        include=["/chat"],
    )
    with TestClient(app) as client:
        client.get("/events")
        client.get("/chat")
    ops_core.wait_for(*LIFE, "active", "idle", "draining", "finished")


def test_a_failure_tells_its_route_and_trace_and_nothing_of_the_request(
    ops_core: ScriptedOpsCore,
) -> None:
    async def fail(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse(RPC_ERROR)

    app = Starlette(routes=[Route("/draw/{name}", fail, methods=["POST"])])
    app.add_middleware(
        OpsCoreMiddleware, api_url=URL, agent_name="tested", transport=ops_core.transport
    )
    trace = "0af7651916cd43dd8448eb211c80319c"
    with TestClient(app) as client:
        client.post(
            "/draw/jane@example.com?token=secret",
            json={"password": "secret"},
            headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01", "x-own": "secret"},
        )
        report = ops_core.wait_for(*LIFE, "active", "error")[3]
    error = report["details"]["error"]
    assert (error["where"], error["trace_id"]) == ("POST /draw/{name}", trace)
    told = json.dumps([call.body for call in ops_core.calls])
    assert not [word for word in ("secret", "jane", "x-own") if word in told]


def test_the_message_of_a_failure_is_bounded(ops_core: ScriptedOpsCore) -> None:
    async def fail(_request: Request) -> None:
        raise ValueError("x" * 100_000)

    app = Starlette(routes=[Route("/", fail, methods=["POST"])])
    app.add_middleware(
        OpsCoreMiddleware, api_url=URL, agent_name="tested", transport=ops_core.transport
    )
    TestClient(app, raise_server_exceptions=False).post("/")
    error = ops_core.wait_for("active", "error")[1]["details"]["error"]
    assert len(error["message"]) == 500
