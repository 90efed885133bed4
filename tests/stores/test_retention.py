"""Old history goes, the oldest first and a little at a time; everything else stays."""

from __future__ import annotations

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.records import ReportOutcome
from opscore_middleware.core.store import Store
from tests.stores.support import NOW, add, instances, said, told

pytestmark = pytest.mark.asyncio


async def reported(store: Store, count: int) -> None:
    """Add an agent with so many transitions, a second apart."""
    await add(store)
    await store.apply_reports(
        [said("idle", sequence=n, at=n * SECOND) for n in range(1, count + 1)]
    )


async def test_what_is_older_goes_and_the_rest_stays(store: Store) -> None:
    await reported(store, 10)
    assert await store.prune_history(before=NOW + 4 * SECOND, limit=100) == 3
    assert [t.sequence for t in await told(store)] == list(range(4, 11))
    assert await store.prune_history(before=NOW + 4 * SECOND, limit=100) == 0


async def test_no_more_goes_at_once_than_is_asked_for(store: Store) -> None:
    await reported(store, 10)
    counts = [await store.prune_history(before=NOW + 8 * SECOND, limit=3) for _ in range(4)]
    assert counts == [3, 3, 1, 0]
    assert [t.sequence for t in await told(store)] == [8, 9, 10]


async def test_the_state_and_the_numbers_of_events_outlive_the_history(store: Store) -> None:
    await reported(store, 5)
    before, last = await instances(store), await store.last_event_id()
    assert await store.prune_history(before=NOW + 100 * SECOND, limit=100) == 5
    assert (await told(store), await instances(store)) == ([], before)
    assert await store.last_event_id() == last
    assert await store.first_event_id() == last + 1
    await store.apply_reports([said("active", sequence=6, at=200 * SECOND)])
    (transition,) = await told(store)
    assert transition.event_id > last


async def test_a_repeat_of_what_was_forgotten_leaves_the_state_alone(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("active", sequence=1), said("idle", sequence=2)])
    await store.prune_history(before=NOW + SECOND, limit=100)
    again = await store.apply_reports([said("active", sequence=1)])
    assert again == [ReportOutcome.ACCEPTED]
    assert (await instances(store))["i"].state == "idle"
