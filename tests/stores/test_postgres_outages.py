"""PostgreSQL away, cut off, killed, back: what was answered is there, and nothing twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from opscore_middleware.core.records import ReportOutcome
from opscore_middleware.core.store import Store, WakingStore
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores import open_store
from opscore_middleware.stores.postgres_address import Address
from opscore_middleware.stores.postgres_connections import Connections
from opscore_middleware.stores.postgres_locks import EVENTS
from opscore_middleware.stores.postgres_reports import HURRY
from tests.stores.run_support import Everything, claimed, given, idle, task
from tests.stores.support import add, instances, said, told
from tests.stores.test_heartbeats import beat
from tests.support.cutting import Cut, CuttableWay, cuttable_way
from tests.support.postgres import PASSWORD, PostgresServer, empty
from tests.support.waiting import TIMEOUT, wait_until_async

pytestmark = pytest.mark.asyncio

ACCEPTED, DUPLICATE = ReportOutcome.ACCEPTED, ReportOutcome.DUPLICATE


@pytest.fixture
def server(mortal_postgres: PostgresServer) -> PostgresServer:
    """A server that runs and holds nothing, whatever the test before did to it."""
    mortal_postgres.restart()
    empty(mortal_postgres.local_url)
    return mortal_postgres


@pytest_asyncio.fixture
async def way(server: PostgresServer) -> AsyncIterator[CuttableWay]:
    async with cuttable_way(server.port) as way:
        yield way


@pytest_asyncio.fixture
async def store(server: PostgresServer, way: CuttableWay) -> AsyncIterator[Store]:
    """A store that reaches its server by a way that can be cut."""
    parts = urlsplit(server.url)
    netloc = parts.netloc.replace(f":{server.port}", f":{way.port}")
    store = open_store(urlunsplit(parts._replace(netloc=netloc)))
    await store.open()
    await add(store)
    yield store
    await asyncio.wait_for(store.close(), TIMEOUT)


async def answered(store: Store, sequence: int) -> ReportOutcome:
    """Send a report until it is answered."""

    async def send() -> list[ReportOutcome]:
        try:
            return list(await store.apply_reports([said(sequence=sequence)]))
        except StoreUnavailable:
            return []

    (outcome,) = await wait_until_async(send, message="the store to recover")
    return outcome


@pytest.mark.parametrize(
    ("when", "again"), [(Cut.BEFORE_IT_HEARS, ACCEPTED), (Cut.BEFORE_IT_IS_HEARD, DUPLICATE)]
)
@pytest.mark.parametrize(
    ("states", "words"),
    # What one statement writes and commits, and what takes a transaction of several.
    [(["active", "farewell"], b"farewell"), (["finished", "idle"], b"COMMIT")],
)
async def test_who_is_not_told_whether_it_was_kept_repeats_it_and_it_is_kept_once(
    store: Store,
    way: CuttableWay,
    states: list[str],
    words: bytes,
    when: Cut,
    again: ReportOutcome,
) -> None:
    assert await store.apply_reports([said("active", sequence=1)]) == [ACCEPTED]
    way.cut_at(words, when)
    asked = [
        store.apply_reports([said(state, sequence=n)]) for n, state in enumerate(states, start=2)
    ]
    for failure in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(failure, StoreUnavailable)
        assert PASSWORD not in failure.message
    assert [await answered(store, n) for n in (2, 3)] == [again] * 2
    assert [t.sequence for t in await told(store)] == [1, 2, 3]


@pytest.mark.parametrize(
    "words", [b"opscore.agents WHERE agent_id = ANY", b"BEGIN", b"SET LOCAL", b"ON CONFLICT"]
)
async def test_a_connection_lost_on_the_way_leaves_nothing_half_written(
    store: Store, way: CuttableWay, words: bytes
) -> None:
    way.cut_at(words, Cut.BEFORE_IT_IS_HEARD)
    with pytest.raises(StoreUnavailable):
        await store.apply_reports([said("finished", sequence=1), said("idle", sequence=2)])
    assert await instances(store) == {}
    assert await answered(store, 1) is ACCEPTED


async def test_a_claim_that_nobody_hears_the_end_of_is_told_as_an_outage(
    store: Everything, way: CuttableWay
) -> None:
    """So that whoever claims knows that there may be attempts that nobody sends."""
    await idle(store)
    await given(store, task("farewell"), session_id="s")
    way.cut_at(b"farewell", Cut.BEFORE_IT_IS_HEARD)
    with pytest.raises(StoreUnavailable):
        await claimed(store)
    left = await store.get_task("farewell")
    assert left is not None
    assert (left.state, left.attempt) == ("dispatched", 1)


async def test_readers_and_heartbeats_hear_of_a_lost_connection_and_recover(
    store: Store, way: CuttableWay
) -> None:
    for ask, words in (
        (lambda: store.get_agent("a"), b"json_agg"),
        (lambda: store.heartbeat(beat()), b"in_flight"),
        (lambda: store.deregister("nobody", now=1), b"deregistered_at"),
    ):
        for _ in range(2):
            await ask()
        await store.close()
        await store.open()  # words are said once to a connection, so to a new one
        way.cut_at(words, Cut.BEFORE_IT_IS_HEARD)
        with pytest.raises(StoreUnavailable):
            await ask()
        await ask()


async def test_while_the_server_is_away_all_are_told_and_afterwards_all_goes_on(
    store: Store, server: PostgresServer
) -> None:
    await store.apply_reports([said("active", sequence=1)])
    await asyncio.to_thread(server.stop)
    for ask in (
        lambda: store.apply_reports([said(sequence=2)]),
        lambda: store.heartbeat(beat()),
        lambda: store.get_agent("a"),
        lambda: store.watermark(now=1),
        store.ping,
    ):
        with pytest.raises(StoreUnavailable) as raised:
            await ask()
        assert PASSWORD not in f"{raised.value.message} {raised.value.context}"
    await asyncio.to_thread(server.start)
    assert await answered(store, 2) is ACCEPTED
    assert (await instances(store))["i"].sequence == 2
    await store.ping()


async def test_a_wait_for_events_outlives_the_server(store: Store, server: PostgresServer) -> None:
    assert isinstance(store, WakingStore)
    heard = await store.wait_for_events(TIMEOUT, after=0)
    await asyncio.to_thread(server.stop)
    for _ in range(3):
        heard = await store.wait_for_events(0.01, after=heard)
    await asyncio.to_thread(server.start)
    # Listens again, and may have missed something.
    heard = await store.wait_for_events(TIMEOUT, after=heard)
    waiting = asyncio.ensure_future(store.wait_for_events(TIMEOUT, after=heard))
    await answered(store, 1)
    await asyncio.wait_for(waiting, TIMEOUT / 2)


async def test_a_server_killed_under_load_has_all_that_was_answered_and_nothing_twice(
    server: PostgresServer,
) -> None:
    stores = [open_store(server.local_url) for _ in range(2)]
    await asyncio.gather(*(store.open() for store in stores))
    await add(stores[0])
    callers = [Caller(store, f"i{n}") for store in stores for n in range(16)]
    running = [asyncio.ensure_future(caller.run()) for caller in callers]

    async def all_have(count: int) -> None:
        await wait_until_async(
            lambda: min(len(caller.answered) for caller in callers) >= count,
            message=f"{count} answers to each caller",
            timeout=30,
        )

    for round_ in range(1, 3):
        await all_have(10 * round_)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    await all_have(30)
    for caller in callers:
        caller.goes_on = False
    await asyncio.gather(*running)
    kept: dict[str | None, list[int | None]] = {}
    for transition in await told(stores[0]):
        kept.setdefault(transition.instance_id, []).append(transition.sequence)
    assert kept == {caller.name: caller.answered for caller in callers}
    assert any(caller.repeats for caller in callers)
    for name, instance in (await instances(stores[1])).items():
        assert instance.sequence == kept[name][-1]
    await asyncio.gather(*(store.close() for store in stores))


@pytest.mark.soak
async def test_a_replica_frozen_in_the_middle_of_a_transaction_holds_others_up_for_ten_seconds(
    store: Store, server: PostgresServer
) -> None:
    frozen = await asyncpg.connect(server.local_url)
    await frozen.execute(f"BEGIN; {HURRY}; SELECT pg_advisory_xact_lock({EVENTS})")
    began = time.monotonic()
    assert await store.apply_reports([said(sequence=1)]) == [ACCEPTED]
    assert 9 < time.monotonic() - began < 12
    frozen.terminate()


class Caller:
    """One that reports, and repeats what it got no answer to, as agents do."""

    def __init__(self, store: Store, name: str) -> None:
        self.name = f"{name}-{id(store)}"
        self.answered: list[int] = []
        self.repeats = 0
        self.goes_on = True
        self._store = store

    async def run(self) -> None:
        while self.goes_on:
            sequence = len(self.answered) + 1
            report = said(instance_id=self.name, sequence=sequence)
            try:
                (outcome,) = await self._store.apply_reports([report])
            except StoreUnavailable:
                self.repeats += 1
                continue
            assert outcome in (ACCEPTED, DUPLICATE)
            self.answered.append(sequence)


async def test_a_connection_that_the_driver_is_lost_on_is_replaced(postgres: str) -> None:
    connections = Connections(Address.of(urlsplit(postgres)), size=1)
    used: list[int] = []

    async def use(failure: Exception | None = None) -> None:
        async with connections.connection() as connection:
            used.append(await connection.fetchval("SELECT pg_backend_pid()"))
            if failure is not None:
                raise failure

    await connections.open()
    try:
        with pytest.raises(StoreUnavailable, match="another operation"):
            await use(asyncpg.InternalClientError("another operation (2) is in progress"))
        await use()
        await use()
    finally:
        await connections.close()
    first, second, third = used
    assert first != second == third


async def test_a_schema_that_is_gone_is_told_of_and_its_return_is_noticed(
    store: Store, server: PostgresServer
) -> None:
    async def rename(before: str, after: str) -> None:
        connection = await asyncpg.connect(server.local_url)
        await connection.execute(f"ALTER SCHEMA {before} RENAME TO {after}")
        await connection.close()

    assert await answered(store, 1) is ACCEPTED
    await rename("opscore", "elsewhere")
    try:
        for call in (store.apply_reports([said(sequence=2)]), store.get_agent("a"), store.ping()):
            with pytest.raises(StoreUnavailable, match="restore its schema opscore"):
                await call
    finally:
        await rename("elsewhere", "opscore")
    assert await answered(store, 2) is ACCEPTED
    assert len(await told(store)) == 2
