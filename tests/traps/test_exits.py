"""How a process ends that never came up."""

from __future__ import annotations

from tests.agent.test_process import AGENT, CLOCK, black_hole, run

FAILS_TO_START = """
async def broken(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "LookupError: no weights"})

agent.app = broken
began.append(time.monotonic())
live()
"""


def test_a_black_hole_delays_the_exit_after_a_failed_start_by_half_a_second_at_most() -> None:
    with black_hole() as url:
        took = float(run(CLOCK + AGENT + FAILS_TO_START, url))
    assert took < 0.65
