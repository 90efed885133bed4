"""Apps that are not by the book, and what the middleware makes of them: no harm, and the truth."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from opscore_middleware import AgentState
from tests.agent.exchange import Exchange, reported
from tests.agent.support import ScriptedOpsCore, watched
from tests.support.waiting import wait_until_async

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"done"}
FAILED_CALL = b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no ink"}}'


class Taking(Exchange):
    """A server that takes whatever it is sent, as some do."""

    def __init__(self, *parts: bytes, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.taken: list[Any] = []

    async def _send(self, message: Any) -> None:
        self.taken.append(message)


def sending(*messages: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


@pytest.mark.parametrize("name", [b"content-type", b"Content-Type", b"CONTENT-TYPE"])
@pytest.mark.anyio
async def test_a_failure_inside_a_200_is_found_whatever_the_case_of_header_names(
    name: bytes, ops_core: ScriptedOpsCore
) -> None:
    start = {**START, "headers": [(name, b"application/json")]}
    agent = watched(sending(start, {**END, "body": FAILED_CALL}), ops_core)
    await Taking().run(agent)
    assert agent.state is AgentState.ERROR


@pytest.mark.anyio
async def test_a_failure_inside_a_200_is_found_where_the_headers_can_be_read_once(
    ops_core: ScriptedOpsCore,
) -> None:
    headers = [(b"content-type", b"application/json"), (b"x-a", b"1")]
    start = {**START, "headers": (header for header in headers)}
    agent = watched(sending(start, {**END, "body": FAILED_CALL}), ops_core)
    exchange = await Taking().run(agent)
    assert agent.state is AgentState.ERROR
    assert list(exchange.taken[0]["headers"]) == headers


@pytest.mark.anyio
async def test_what_headers_raise_while_they_are_read_reaches_the_app(
    ops_core: ScriptedOpsCore,
) -> None:
    def broken() -> Any:
        yield (b"content-type", b"application/json")
        raise ValueError("no ink")

    agent = watched(sending({**START, "headers": broken()}, END), ops_core)
    with pytest.raises(ValueError, match="no ink"):
        await Taking().run(agent)
    assert agent.state is AgentState.ERROR


@pytest.mark.parametrize("name", [b"content-type", b"Content-Type"])
@pytest.mark.anyio
async def test_a_listener_is_no_work_whatever_the_case_of_header_names(
    name: bytes, ops_core: ScriptedOpsCore
) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":  # begun later, it counts later
            await wait_until_async(lambda: agent.state is AgentState.ACTIVE)
        else:
            await send({**START, "headers": [(name, b"text/event-stream")]})
            await Taking(method="GET", path="/slow").run(agent)
            seen.append(agent.state)
        await send(END)

    agent = watched(app, ops_core, read_grace=0.05)
    await Taking(method="GET").run(agent)
    assert seen == [AgentState.IDLE]


# --- what only the server may judge ---------------------------------------------------------------


@pytest.mark.parametrize("status", ["200", None, 200.0])
@pytest.mark.anyio
async def test_a_status_that_is_no_number_is_the_servers_to_judge(
    status: Any, ops_core: ScriptedOpsCore
) -> None:
    """hypercorn takes "200"."""
    server = Taking()
    agent = watched(sending({**START, "status": status}, END), ops_core)
    try:
        await server.run(agent)
    finally:
        assert agent._tracker.in_flight == 0
    assert len(server.taken) == 2


@pytest.mark.parametrize(
    "headers",
    [[(b"content-type", "application/json")], [(b"content-type", None)], [b"x"], [(b"a", b"b", 1)]],
)
@pytest.mark.anyio
async def test_headers_that_are_none_are_the_servers_to_judge(
    headers: Any, ops_core: ScriptedOpsCore
) -> None:
    server = Taking()
    await server.run(watched(sending({**START, "headers": headers}, END), ops_core))
    assert len(server.taken) == 2


@pytest.mark.anyio
async def test_a_start_without_a_status_is_the_servers_to_judge(ops_core: ScriptedOpsCore) -> None:
    server = Taking()
    await server.run(watched(sending({"type": "http.response.start"}, END), ops_core))
    assert len(server.taken) == 2


# --- extensions that end no response --------------------------------------------------------------


@pytest.mark.parametrize(
    "early",
    [
        {"type": "http.response.early_hint", "links": []},
        {"type": "http.response.push", "path": "/a", "headers": []},
    ],
    ids=lambda early: early["type"],
)
@pytest.mark.anyio
async def test_what_comes_ahead_of_a_response_does_not_finish_it(
    early: Any, ops_core: ScriptedOpsCore
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(early)
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        raise RuntimeError("nobody listens")

    agent = watched(app, ops_core)
    with pytest.raises(RuntimeError):
        await Taking(leaves=True).run(agent)
    assert agent.state is AgentState.IDLE


@pytest.mark.anyio
async def test_a_file_that_is_sent_in_parts_is_not_finished_by_the_first(
    ops_core: ScriptedOpsCore,
) -> None:
    part = {"type": "http.response.zerocopysend", "file": 0, "more_body": True}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part)

    agent = watched(app, ops_core)
    await Exchange().run(agent)  # its client stays
    [_, error] = await reported(ops_core, "active", "error")
    assert error["details"]["error"]["type"] == "ResponseUnfinished"


# --- a client that has left stays gone ------------------------------------------------------------


@pytest.mark.anyio
async def test_a_client_that_has_left_stays_gone_however_often_it_is_asked_after(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await send(START)
        await send(END)
        assert (await receive())["type"] == "http.disconnect"
        raise RuntimeError("nobody listens")

    agent = watched(app, ops_core)
    with pytest.raises(RuntimeError):
        await Taking(leaves=True).run(agent)
    assert agent.state is AgentState.IDLE


@pytest.mark.anyio
async def test_a_request_that_is_tried_again_with_its_scope_counts_again(
    ops_core: ScriptedOpsCore,
) -> None:
    """As middleware further out that retries does."""
    agent = watched(sending(START, END), ops_core)
    server = Taking()
    await server.run(agent)
    await server.run(agent)
    await reported(ops_core, *["active", "idle"] * 2)


def test_annotations_that_cannot_be_read_are_no_reason_to_refuse_an_app(
    ops_core: ScriptedOpsCore,
) -> None:
    """From Python 3.14 on `inspect.signature` evaluates them: names imported for type checkers."""

    class App:
        @property
        def __signature__(self) -> Any:
            raise NameError("name 'Scope' is not defined")

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    watched(App(), ops_core)


def test_a_task_that_outlives_its_request_keeps_nothing_of_its_response(
    ops_core: ScriptedOpsCore,
) -> None:
    """Its context holds the request, and so the scanner: 64 KiB for each such task or timer."""
    left: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        left.append(asyncio.ensure_future(asyncio.sleep(100)))
        await send({**START, "headers": [(b"content-type", b"application/json")]})
        await send({**END, "body": b'"' + bytes(60_000) + b'"'})

    async def main() -> int:
        agent = watched(app, ops_core)
        await Exchange().run(agent)
        tracemalloc.start()
        try:
            for _ in range(100):
                await Exchange().run(agent)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            for task in left:
                task.cancel()

    assert asyncio.run(main()) < 1_000_000


@pytest.mark.anyio
async def test_an_app_that_answers_nothing_has_failed(ops_core: ScriptedOpsCore) -> None:
    """Servers answer 500 then."""
    await Exchange().run(watched(sending(), ops_core))  # its client stays
    [_, error] = await reported(ops_core, "active", "error")
    assert error["details"]["error"]["type"] == "ResponseMissing"


@pytest.mark.anyio
async def test_an_app_that_answers_nothing_since_its_client_has_left_has_not_failed(
    ops_core: ScriptedOpsCore,
) -> None:
    agent = watched(sending(), ops_core)
    await Exchange(leaves=True).run(agent)
    assert agent.state is AgentState.IDLE


@pytest.mark.anyio
async def test_what_an_outer_middleware_leaves_out_an_inner_one_does_not_count(
    ops_core: ScriptedOpsCore,
) -> None:
    inner = watched(sending(START, END), ops_core)
    outer = watched(inner, ops_core, exclude=["/job"])
    await Exchange().run(outer)
    assert inner.state is AgentState.UNKNOWN


@pytest.mark.parametrize("headers", [[(b"content-type", None)], [b"x"], [([], b"")]])
@pytest.mark.anyio
async def test_request_headers_that_are_none_are_the_apps_to_judge(
    headers: Any, ops_core: ScriptedOpsCore
) -> None:
    agent = watched(sending(START, END), ops_core)
    await Exchange(headers=headers).run(agent)
    await reported(ops_core, "active", "idle")
