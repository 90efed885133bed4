"""When most of the fleet falls silent together, Ops-Core doubts itself, once and not for long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.doubt import LONGEST, Census, Doubt, consider, trusted
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.models import Heartbeat, Liveness, Registration
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.stores import open_store
from tests.support.clock import MovedClock

aio = pytest.mark.asyncio

INTERVAL = 10
COUNTS = st.integers(min_value=0, max_value=60)
MARKS = st.integers(min_value=0, max_value=10**12).map(lambda at: Watermark(0, at))


class World:
    """A fleet of agents with one instance each, which speak when they are told to."""

    def __init__(self, opscore: OpsCore, clock: MovedClock, size: int) -> None:
        self.opscore = opscore
        self._clock = clock
        self._size = size
        self._second = 0

    async def populate(self) -> None:
        for number in range(self._size):
            await self.opscore.register(Registration(agent_id=f"a{number}", agent_name="a"))
        await self.go_on(2 * INTERVAL, silent=0)

    async def go_on(self, seconds: int, *, silent: int) -> None:
        """Let time pass; those with the lowest numbers are silent, the others are spread."""
        for _ in range(seconds):
            self._clock.move(1)
            self._second += 1
            for number in range(silent, self._size):
                if number % INTERVAL == self._second % INTERVAL:
                    beat = Heartbeat(
                        instance_id="i", state="idle", sequence=0, interval_seconds=INTERVAL
                    )
                    await self.opscore.heartbeat(f"a{number}", beat)
            await self.opscore.tick()

    async def until_doubt(self, *, silent: int) -> Doubt:
        """Let time pass until Ops-Core doubts itself; nobody is lost before."""
        for _ in range(4 * INTERVAL):
            await self.go_on(1, silent=silent)
            assert await self.lost() == 0
            if self.opscore.doubt is not None:
                return self.opscore.doubt
        raise AssertionError("Ops-Core is sure of itself")

    async def lost(self) -> int:
        return (await self.opscore.fleet()).liveness[Liveness.LOST]


@pytest_asyncio.fixture
async def opscore() -> AsyncIterator[tuple[OpsCore, MovedClock]]:
    store, clock = open_store("sqlite:///:memory:"), MovedClock()
    await store.open()
    yield OpsCore(store, clock=clock), clock
    await store.close()


@pytest_asyncio.fixture
async def world(opscore: tuple[OpsCore, MovedClock]) -> World:
    world = World(*opscore, size=20)
    await world.populate()
    return world


@aio
async def test_few_that_fall_silent_are_lost_at_their_time(world: World) -> None:
    await world.go_on(32, silent=10)
    assert await world.lost() > 0
    assert world.opscore.doubt is None


@aio
async def test_most_that_fall_silent_together_are_given_one_interval_more(world: World) -> None:
    doubt = await world.until_doubt(silent=15)
    assert (doubt.silent, doubt.fleet) == (15, 20)
    shown = (await world.opscore.fleet()).doubt
    assert shown is not None
    assert (shown.silent, shown.of) == (15, 20)
    await world.go_on(INTERVAL - 1, silent=15)
    assert await world.lost() == 0
    await world.go_on(1, silent=15)
    assert await world.lost() > 0


@aio
async def test_an_incident_is_doubted_once(world: World) -> None:
    await world.go_on(60, silent=15)
    assert await world.lost() == 15
    first = world.opscore.doubt
    assert first is not None
    await world.go_on(100, silent=15)
    assert world.opscore.doubt == first
    assert await world.lost() == 15


@aio
async def test_who_is_heard_from_again_in_time_is_never_lost(world: World) -> None:
    await world.until_doubt(silent=20)
    for _ in range(INTERVAL):
        await world.go_on(1, silent=0)
        assert await world.lost() == 0
    assert world.opscore.doubt is None


@aio
async def test_the_next_incident_is_doubted_again(world: World) -> None:
    await world.go_on(60, silent=20)
    first = world.opscore.doubt
    await world.go_on(30, silent=0)
    assert (world.opscore.doubt, await world.lost()) == (None, 0)
    await world.go_on(31, silent=20)
    assert world.opscore.doubt is not None
    assert world.opscore.doubt != first
    assert await world.lost() == 0


@aio
async def test_those_lost_before_stay_lost_while_it_doubts(world: World) -> None:
    await world.go_on(60, silent=3)
    assert (await world.lost(), world.opscore.doubt) == (3, None)
    await world.go_on(31, silent=20)
    assert world.opscore.doubt is not None
    assert await world.lost() == 3


@aio
async def test_a_small_fleet_is_not_doubted_for(opscore: tuple[OpsCore, MovedClock]) -> None:
    world = World(*opscore, size=9)
    await world.populate()
    await world.go_on(45, silent=9)
    assert (world.opscore.doubt, await world.lost()) == (None, 9)


@given(before=MARKS, later=st.integers(1, 10**9), census=st.builds(Census, *[COUNTS] * 4))
def test_nobody_is_doubted_for_without_ten_and_more_than_half(
    before: Watermark, later: int, census: Census
) -> None:
    mark = before._replace(seen_at=before.seen_at + later)
    doubt = consider(None, before, mark, census)
    enough = census.silent >= 10 and census.silent * 2 > census.fleet and census.lost > 0
    assert (doubt is not None) == enough
    kept = consider(Doubt(before, mark.seen_at, 2, 3), before, mark, census)
    assert (kept is not None) == (census.silent >= 10 and census.silent * 2 > census.fleet)


@given(before=MARKS, later=st.integers(1, 10**9), interval=st.integers(1, 10**12))
def test_doubt_lasts_one_interval_and_never_more_than_a_minute(
    before: Watermark, later: int, interval: int
) -> None:
    mark = before._replace(seen_at=before.seen_at + later)
    doubt = consider(None, before, mark, Census(20, 20, 1, interval))
    assert doubt is not None
    assert trusted(doubt, mark) == before
    lasts = min(interval, LONGEST)
    last = mark._replace(seen_at=mark.seen_at + lasts - 1)
    assert trusted(doubt, last) == before
    over = mark._replace(seen_at=mark.seen_at + lasts)
    assert trusted(doubt, over) == over
    assert consider(doubt, before, last, Census(20, 0, 0, 0)) == doubt
    assert consider(doubt, before, over, Census(20, 0, 0, 0)) is None
    assert LONGEST == 60 * SECOND
