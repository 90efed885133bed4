"""How PostgreSQL's writers gather, commit and answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from opscore_middleware.core.records import ReportOutcome
from opscore_middleware.core.store import Store
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores import open_store
from opscore_middleware.stores.postgres_listener import CHANNEL
from opscore_middleware.stores.postgres_locks import EVENTS
from tests.stores.support import NOW, add, instances, said, told
from tests.stores.test_heartbeats import beat
from tests.support.waiting import TIMEOUT, wait_until_async

pytestmark = pytest.mark.asyncio

ACCEPTED, DUPLICATE = ReportOutcome.ACCEPTED, ReportOutcome.DUPLICATE


@pytest_asyncio.fixture
async def store(postgres: str) -> AsyncIterator[Store]:
    store = open_store(postgres)
    await store.open()
    await add(store)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def aside(postgres: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection beside the store's."""
    connection = await asyncpg.connect(postgres)
    yield connection
    await connection.close()


@asynccontextmanager
async def held(aside: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    """Keep everybody from writing events, as a replica does that is in the middle of a commit."""
    await aside.execute(f"SELECT pg_advisory_lock({EVENTS})")
    try:
        yield
    finally:
        await aside.execute(f"SELECT pg_advisory_unlock({EVENTS})")


async def is_waited_for(aside: asyncpg.Connection[Any]) -> None:
    """Wait until somebody waits to write events."""
    await wait_until_async(
        lambda: aside.fetchval(
            "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ),
        message="a commit to wait",
    )


async def commits(aside: asyncpg.Connection[Any]) -> int:
    """How many transactions have written events."""
    count: int = await aside.fetchval("SELECT count(DISTINCT xmin::text) FROM opscore.events")
    return count


async def test_a_commit_is_on_disk_before_it_is_answered(aside: asyncpg.Connection[Any]) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await aside.fetchval(f"SHOW {setting}") == "on"


async def test_callers_that_come_during_a_commit_share_the_next(
    store: Store, aside: asyncpg.Connection[Any]
) -> None:
    async with held(aside):
        first = asyncio.ensure_future(store.apply_reports([said(sequence=1)]))
        await is_waited_for(aside)
        others = [
            asyncio.ensure_future(store.apply_reports([said(sequence=n)])) for n in range(2, 201)
        ]
    assert await asyncio.gather(first, *others) == [[ACCEPTED]] * 200
    assert await commits(aside) == 2
    assert [t.sequence for t in await told(store)] == list(range(1, 201))


async def test_one_commit_takes_only_so_many_reports(
    store: Store, aside: asyncpg.Connection[Any]
) -> None:
    batches = [
        [said(instance_id=f"{n}", sequence=sequence + 1) for sequence in range(1000)]
        for n in range(5)
    ]
    answers = await asyncio.gather(*(store.apply_reports(b, whole=True) for b in batches))
    assert answers == [[ACCEPTED] * 1000] * 5
    assert await commits(aside) == 2


async def test_one_caller_after_the_other_each_gets_a_commit(
    store: Store, aside: asyncpg.Connection[Any]
) -> None:
    for sequence in range(1, 6):
        await store.apply_reports([said(sequence=sequence)])
    assert await commits(aside) == 5


async def test_a_caller_that_is_cancelled_leaves_the_others_alone(
    store: Store, aside: asyncpg.Connection[Any]
) -> None:
    async with held(aside):
        first = asyncio.ensure_future(store.apply_reports([said(sequence=1)]))
        await is_waited_for(aside)
        first.cancel()
        others = [
            asyncio.ensure_future(store.apply_reports([said(sequence=n)])) for n in range(2, 4)
        ]
    assert await asyncio.gather(*others) == [[ACCEPTED]] * 2
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await instances(store))["i"].sequence == 3


async def test_readers_do_not_hold_up_writers_nor_writers_readers(
    store: Store, aside: asyncpg.Connection[Any]
) -> None:
    await store.apply_reports([said("active", sequence=1)])
    async with held(aside):
        writing = asyncio.ensure_future(store.apply_reports([said("idle", sequence=2)]))
        await is_waited_for(aside)
        reads = await asyncio.gather(*(instances(store) for _ in range(50)))
        assert {read["i"].state for read in reads} == {"active"}
        assert (await store.heartbeat(beat())).state == "active"
    assert await writing == [ACCEPTED]


async def test_a_bad_report_costs_its_neighbours_nothing(
    store: Store, aside: asyncpg.Connection[Any]
) -> None:
    async with held(aside):
        first = asyncio.ensure_future(store.apply_reports([said(sequence=1)]))
        await is_waited_for(aside)
        others = [
            asyncio.ensure_future(store.apply_reports([said(sequence=2, details="a\0b")])),
            asyncio.ensure_future(store.apply_reports([said(sequence=3), said(sequence=1)])),
            asyncio.ensure_future(store.apply_reports([said("a\0b", sequence=4)])),
        ]
    assert await first == [ACCEPTED]
    failed, written, failed_too = await asyncio.gather(*others, return_exceptions=True)
    assert written == [ACCEPTED, DUPLICATE]
    for failure in (failed, failed_too):
        assert isinstance(failure, asyncpg.CharacterNotInRepertoireError)
    assert [t.sequence for t in await told(store)] == [1, 3]


async def test_a_bad_heartbeat_costs_its_neighbours_nothing(store: Store) -> None:
    beats = [beat(instance_id="i"), beat(instance_id="a\0b"), beat(instance_id="j")]
    good, bad, good_too = await asyncio.gather(
        *(store.heartbeat(b) for b in beats), return_exceptions=True
    )
    assert isinstance(bad, asyncpg.CharacterNotInRepertoireError)
    assert good == good_too
    assert set(await instances(store)) == {"i", "j"}


async def test_heartbeats_of_one_instance_may_share_a_commit(store: Store) -> None:
    beats = [beat(at=n, in_flight=n, started_at=NOW - n if n > 2 else None) for n in (5, 1, 3)]
    known = await asyncio.gather(*(store.heartbeat(b) for b in beats))
    assert len(set(known)) == 1
    instance = (await instances(store))["i"]
    assert (instance.last_seen_at, instance.in_flight) == (NOW + 5, 3)
    assert instance.started_at == NOW - 5


async def test_each_commit_with_events_is_told_once_and_repeats_are_not(
    store: Store, aside: asyncpg.Connection[Any]
) -> None:
    heard: list[object] = []
    await aside.add_listener(CHANNEL, lambda *notification: heard.append(notification[3]))
    await store.apply_reports([said(sequence=n) for n in range(1, 101)])
    await store.apply_reports([said(sequence=n) for n in range(1, 101)])
    await store.heartbeat(beat())
    await store.apply_reports([said(sequence=101)])
    await wait_until_async(lambda: len(heard) >= 2, message="two notifications")
    assert await aside.fetchval("SELECT 1") == 1  # whatever else was notified would be here now
    assert heard == ["", ""]
    await aside.reset()


async def test_an_agent_that_goes_back_and_forth_changes_no_index(
    postgres: str, aside: asyncpg.Connection[Any]
) -> None:
    store = open_store(postgres)
    await store.open()
    await add(store)
    for sequence in range(1, 41):
        state = "active" if sequence % 2 else "idle"
        await store.apply_reports([said(state, at=sequence, sequence=sequence)])
    await store.close()  # connections tell what they counted when they end
    await wait_until_async(lambda: _is_zero(aside, _NOT_YET_COUNTED))
    # A page that is full now and then costs a new entry; mostly there is room for another version.
    assert await aside.fetchval(_IN_PLACE) >= 30


async def test_closing_writes_what_was_asked_for_and_refuses_the_rest(postgres: str) -> None:
    store = open_store(postgres)
    await store.open()
    await add(store)
    asked = [asyncio.ensure_future(store.apply_reports([said(sequence=n)])) for n in range(1, 101)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    assert await asyncio.gather(*asked) == [[ACCEPTED]] * 100
    for call in (store.apply_reports([said()]), store.heartbeat(beat()), store.get_agent("a")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
    await store.open()
    assert len(await told(store)) == 100
    await store.close()


async def test_a_store_that_is_not_open_says_so(postgres: str) -> None:
    store = open_store(postgres)
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.get_agent("a")
    await store.close()


async def test_closing_leaves_no_connection(postgres: str, aside: asyncpg.Connection[Any]) -> None:
    store = open_store(postgres)
    await store.open()
    await add(store)
    await asyncio.gather(store.apply_reports([said()]), *(store.get_agent("a") for _ in range(9)))
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'opscore'"
    assert await aside.fetchval(query) > 1
    await asyncio.wait_for(store.close(), TIMEOUT)
    await wait_until_async(
        lambda: _is_zero(aside, query), message="the server to notice that all have left"
    )


async def _is_zero(aside: asyncpg.Connection[Any], query: str) -> bool:
    return bool(await aside.fetchval(query) == 0)


_IN_PLACE = "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'instances'"
_NOT_YET_COUNTED = """
    SELECT greatest(39 - n_tup_upd, 0) FROM pg_stat_user_tables WHERE relname = 'instances'"""
