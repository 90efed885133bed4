"""How an agent ends that never came up, or that nobody holds any more."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from opscore_middleware import OpsCoreMiddleware
from tests.agent.support import Received, ScriptedOpsCore, watched
from tests.agent.test_process import AGENT, CLOCK, black_hole, run
from tests.support.measuring import least
from tests.support.waiting import TIMEOUT

FAILS_TO_START = """
async def broken(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "LookupError: no weights"})

agent.app = broken
began.append(time.monotonic())
live()
"""


@pytest.mark.trap("37")
def test_a_black_hole_delays_the_exit_after_a_failed_start_by_half_a_second_at_most() -> None:
    with black_hole() as url:
        took = least(lambda: float(run(CLOCK + AGENT + FAILS_TO_START, url)), below=0.65)
    assert took < 0.65


def test_an_agent_that_is_thrown_away_in_the_middle_of_a_delivery_is_heard_out() -> None:
    agents: list[OpsCoreMiddleware] = []
    served = threading.Event()

    def throw_away(call: Received) -> None:
        if call.path.endswith("/agents"):  # its reports are still to come
            served.wait(TIMEOUT)
            agents.clear()
            gc.collect()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def send(message: Any) -> None:
        pass

    ops_core = ScriptedOpsCore(throw_away)
    agents.append(watched(app, ops_core))
    asyncio.run(agents[0]({"type": "http", "method": "POST", "path": "/"}, None, send))  # type: ignore[arg-type]
    served.set()
    ops_core.wait_for("active", "idle")
