"""A large fleet is counted now and then, a small one whenever somebody asks."""

from __future__ import annotations

from typing import Any

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.fleet import Crew, Headcount, Member
from opscore_middleware.core.headcounts import Headcounts
from opscore_middleware.core.liveness import NEVER, Watermark
from opscore_middleware.core.models import Liveness

pytestmark = pytest.mark.anyio

IDLE = (Member(True, Liveness.ALIVE, "idle"),)


class Counted:
    """A store of which only the count is asked for."""

    def __init__(self, agents: int) -> None:
        self.agents = agents
        self.times = 0

    async def headcount(self, *, mark: Watermark) -> Headcount:
        self.times += 1
        return Headcount([Crew(self.agents, IDLE)], None)


async def times_counted(agents: int, *moments: int) -> int:
    store: Any = Counted(agents)
    now = iter(moments)
    headcounts = Headcounts(store, lambda: next(now))
    for _ in moments:
        assert (await headcounts.take(NEVER)).crews[0].agents == agents
    return int(store.times)


async def test_a_small_fleet_is_counted_whenever_somebody_asks() -> None:
    assert await times_counted(1000, 0, 1, 2) == 3


async def test_a_large_fleet_is_counted_anew_after_a_time_that_grows_with_it() -> None:
    assert await times_counted(10_000, 0, 1, SECOND // 2 - 1) == 1
    assert await times_counted(10_000, 0, SECOND // 2) == 2
    assert await times_counted(100_000, 0, 5 * SECOND - 1, 5 * SECOND) == 2
