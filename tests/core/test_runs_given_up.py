"""An attempt that Ops-Core has given up on, and that is done all the same."""

from __future__ import annotations

import pytest

from opscore_middleware.core.models import Heartbeat
from tests.core.engine_support import benched
from tests.core.play import one


@pytest.mark.asyncio
async def test_who_was_lost_with_a_task_and_has_done_it_need_not_do_it_again() -> None:
    async with benched() as bench:
        await bench.agent()
        await bench.say("idle", instance_id="i", sequence=1)
        await bench.core.heartbeat(
            "a", Heartbeat(instance_id="i", state="idle", sequence=1, interval_seconds=10)
        )
        session_id = await bench.start(one("a"))
        attempt = await bench.claim()
        await bench.say("active", attempt, instance_id="i", sequence=2)
        bench.clock.move(31)
        await bench.engine.expire()
        assert (await bench.task(session_id)).state == "ready"
        done = {"opscore_task_state": "completed", "opscore_task_result": 3}
        await bench.say("idle", attempt, instance_id="i", sequence=3, details=done)
        assert (await bench.task(session_id)).state == "completed"
