"""Requests side by side, cut short and left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from opscore_middleware import AgentState
from tests.agent.support import ScriptedOpsCore, watched
from tests.support.waiting import wait_until_async


@pytest.mark.anyio
async def test_a_thousand_interleaved_requests_keep_their_own_data(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        number = int(scope["path"][1:])
        await anyio.lowlevel.checkpoint()
        if number % 10 == 0:
            raise ValueError(str(number))
        await send({"type": "http.response.start", "status": 200 + number % 7, "headers": []})
        await anyio.lowlevel.checkpoint()
        await send({"type": "http.response.body", "body": b""})

    middleware = watched(app, ops_core)
    answers: dict[int, object] = {}

    async def request(number: int) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answers[number] = message["status"]

        scope = {"type": "http", "method": "POST", "path": f"/{number}"}
        try:
            await middleware(scope, anyio.sleep_forever, send)  # type: ignore[arg-type]
        except ValueError as error:
            answers[number] = str(error)

    async with anyio.create_task_group() as tasks:
        for number in range(1000):
            tasks.start_soon(request, number)
    assert answers == {n: str(n) if n % 10 == 0 else 200 + n % 7 for n in range(1000)}
    assert middleware.state in {AgentState.IDLE, AgentState.ERROR}
    await wait_until_async(
        lambda: (
            sum(r["state"] == "error" for r in list(ops_core.reports))
            + sum(r.get("errors", 0) for r in list(ops_core.reports))
            == 100
        )
    )


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_cancelled_request_leaves_the_agent_idle(
    ops_core: ScriptedOpsCore, method: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    middleware = watched(app, ops_core, read_grace=0)
    scope = {"type": "http", "method": method, "path": "/"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(middleware, scope, None, None)
        await wait_until_async(lambda: middleware.state is AgentState.ACTIVE)
        tasks.cancel_scope.cancel()
    assert middleware.state is AgentState.IDLE
    await wait_until_async(lambda: ops_core.states[-1:] == ["idle"])
    assert "error" not in ops_core.states


def test_a_group_of_cancellations_alone_is_no_error(ops_core: ScriptedOpsCore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise BaseExceptionGroup("stopped", [asyncio.CancelledError(), asyncio.CancelledError()])

    middleware = watched(app, ops_core)
    scope = {"type": "http", "method": "POST", "path": "/"}
    with pytest.raises(BaseExceptionGroup):
        asyncio.run(middleware(scope, None, None))  # type: ignore[arg-type]
    ops_core.wait_for("active", "idle")


def test_an_abandoned_request_does_not_stay_active(ops_core: ScriptedOpsCore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    class Never:
        def __await__(self) -> Iterator[None]:
            yield

    middleware = watched(app, ops_core)
    request = middleware({"type": "http", "method": "POST", "path": "/"}, Never, None)  # type: ignore[arg-type]
    request.send(None)
    assert middleware.state is AgentState.ACTIVE
    request.close()
    ops_core.wait_for("active", "idle")
