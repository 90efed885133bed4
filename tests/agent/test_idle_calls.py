"""JSON-RPC calls that are no work: seen only where they fail."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from tests.agent.exchange import JSON, Exchange, doing, reported
from tests.agent.support import ScriptedOpsCore, watched

pytestmark = pytest.mark.anyio

CALL = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()


async def fails() -> None:
    raise ValueError("no ink")


@pytest.mark.parametrize("size", [20, len(CALL)])
async def test_one_that_raises_is_told(size: int, ops_core: ScriptedOpsCore) -> None:
    agent = doing(fails, ops_core)
    parts = [CALL[i : i + size] for i in range(0, len(CALL), size)]
    with pytest.raises(ValueError):
        await Exchange(*parts, headers=JSON).run(agent)
    *_, error = await reported(ops_core, *(["active", "error"] if size == 20 else ["error"]))
    assert error["details"]["error"]["message"] == "no ink"


async def test_one_that_is_answered_with_a_500_is_told(ops_core: ScriptedOpsCore) -> None:
    async def nothing() -> None:
        pass

    await Exchange(CALL, headers=JSON).run(doing(nothing, ops_core, status=500))
    (error,) = await reported(ops_core, "error")
    assert error["details"]["error"]["type"] == "HTTP 500"


async def test_one_beside_work_is_told_while_the_work_goes_on(ops_core: ScriptedOpsCore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/calls":
            raise ValueError("no ink")
        with pytest.raises(ValueError):
            await Exchange(CALL, headers=JSON, path="/calls").run(agent)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    agent = watched(app, ops_core)
    await Exchange().run(agent)
    await reported(ops_core, "active", "error", "active", "idle")


async def test_one_that_ends_well_or_is_cancelled_shows_nowhere(
    ops_core: ScriptedOpsCore,
) -> None:
    agent = doing(anyio.lowlevel.checkpoint, ops_core)
    await Exchange(CALL, headers=JSON).run(agent)
    with anyio.move_on_after(0.01):
        await Exchange(CALL, headers=JSON).run(doing(anyio.sleep_forever, ops_core))
    await Exchange().run(agent)  # something that shows, so that there is an end to wait for
    await reported(ops_core, "active", "idle")
