"""The hub behind the stream: what it reads, shares, bounds and survives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from starlette.types import Message

from opscore_middleware.core.store import Store, WakingStore
from opscore_middleware.core.watch import EventRecord, Wanted
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.protocol.sse import Message as Event
from opscore_middleware.protocol.sse import Reader
from opscore_middleware.server import batch as batches
from opscore_middleware.server import watch
from opscore_middleware.server.loops import running
from opscore_middleware.server.stream import EventStream
from opscore_middleware.server.watch import Hub
from opscore_middleware.stores import open_store
from tests.stores.support import add, said
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.asyncio


class Counting:
    """A store that counts the readings of events, and fails where a test wants it to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.readings = 0
        self.is_down = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def events(self, **query: Any) -> Any:
        self.readings += 1
        if self.is_down:
            raise StoreUnavailable("The database is away.")
        return await self._store.events(**query)

    async def wait_for_events(self, timeout: float, *, after: int) -> int:
        assert isinstance(self._store, WakingStore)
        return await self._store.wait_for_events(timeout, after=after)


class Client:
    """One who reads a stream, or for a while does not."""

    def __init__(self, hub: Hub, after: int | None = None, wanted: Wanted | None = None) -> None:
        self.reads = asyncio.Event()
        self.reads.set()
        self.leaves = asyncio.Event()
        self.messages: list[Event] = []
        self.pieces: list[bytes] = []
        self.is_over = False
        self._reader = Reader()
        self._stream = EventStream(hub, wanted or Wanted(), after=after, heartbeat=15)
        self.task = asyncio.create_task(self._run())

    @property
    def ids(self) -> list[int]:
        return [int(m.event_id) for m in self.messages if m.event == "transition"]

    @property
    def last_id(self) -> str | None:
        return self._reader.event_id

    async def _run(self) -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await self._stream(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.body":
            self.pieces.append(message["body"])
            self.messages += self._reader.feed(message["body"])
            self.is_over = not message.get("more_body", False)


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Counting]:
    """An open store with an agent `a`."""
    store = open_store("sqlite:///:memory:")
    await store.open()
    await add(store)
    yield Counting(store)
    await store.close()


@asynccontextmanager
async def going(store: Any, backlog: int = 1_000_000) -> AsyncIterator[Hub]:
    """A hub that is kept going."""
    hub = Hub(store, backlog=backlog)
    async with running({"events": hub.loop()}, asyncio.sleep):
        yield hub


@pytest_asyncio.fixture
async def clients() -> AsyncIterator[Callable[..., Any]]:
    """Return a function that lets somebody watch, from when it has returned on."""
    async with AsyncExitStack() as stack:

        async def client(hub: Hub, after: int | None = None, **wanted: Any) -> Client:
            client = Client(hub, after, Wanted(**wanted))
            stack.push_async_callback(_end, client)
            await wait_until_async(lambda: client.last_id is not None)
            return client

        yield client


async def _end(client: Client) -> None:
    client.reads.set()
    client.leaves.set()
    await client.task


async def report(store: Counting, first: int, count: int = 1, details: str | None = None) -> None:
    reports = [said(sequence=first + n, details=details) for n in range(count)]
    await store.apply_reports(reports)


async def test_nothing_is_read_while_nobody_watches(store: Counting, clients: Any) -> None:
    async with going(store) as hub:
        await report(store, 1, 5)
        client = await clients(hub)
        await report(store, 6)
        await wait_until_async(lambda: client.ids == [6])
        client.leaves.set()
        await wait_until_async(lambda: hub.count == 0)
        await client.task
        readings = store.readings
        for sequence in range(7, 12):
            await report(store, sequence)
        assert store.readings == readings
        other = await clients(hub)
        await report(store, 12)
        await wait_until_async(lambda: other.ids == [12])


async def test_an_event_is_read_and_encoded_once_for_everybody(
    store: Counting, clients: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def encode(event: EventRecord) -> bytes:
        encoded.append(event.event_id)
        return encode_event(event)

    encode_event = batches.encode
    monkeypatch.setattr(batches, "encode", encode)
    async with going(store) as hub:
        watching = [await clients(hub) for _ in range(20)]
        watching += [await clients(hub, agent_id="a") for _ in range(5)]
        await report(store, 1, 10)
        for client in watching:
            await wait_until_async(lambda client=client: client.ids == list(range(1, 11)))
        assert encoded == list(range(1, 11))
        assert all(client.pieces[-1] is watching[0].pieces[-1] for client in watching[:20])
        late = await asyncio.gather(*(clients(hub, after=0) for _ in range(20)))
        for client in late:
            await wait_until_async(lambda client=client: client.ids == list(range(1, 11)))
        assert len(encoded) <= 20


async def test_what_queues_up_is_joined_into_one_write(store: Counting, clients: Any) -> None:
    async with going(store) as hub:
        client = await clients(hub)
        client.reads.clear()
        for sequence in range(1, 11):
            await report(store, sequence)
            await wait_until_async(lambda sequence=sequence: hub.position == sequence)
        sent = len(client.pieces)
        client.reads.set()
        await wait_until_async(lambda: client.ids == list(range(1, 11)))
        assert len(client.pieces) - sent <= 2


async def test_one_who_does_not_read_loses_its_backlog_and_nobody_elses(
    store: Counting, clients: Any
) -> None:
    async with going(store, backlog=5_000) as hub:
        slow, quick = await clients(hub), await clients(hub)
        slow.reads.clear()
        for sequence in range(1, 31):
            await report(store, sequence)
            await wait_until_async(lambda sequence=sequence: quick.ids[-1:] == [sequence])
        assert quick.ids == list(range(1, 31))
        slow.reads.set()
        await slow.task
        last = slow.messages[-1]
        assert (last.event, slow.is_over) == ("lagging", True)
        assert slow.ids == list(range(1, int(last.event_id) + 1))
        assert len(slow.ids) < 30
        again = await clients(hub, after=int(last.event_id))
        await wait_until_async(lambda: slow.ids + again.ids == list(range(1, 31)))


async def test_a_store_that_is_away_for_a_while_costs_no_event(
    store: Counting, clients: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_RETRY", 0.01)
    async with going(store) as hub:
        client = await clients(hub)
        store.is_down = True
        readings = store.readings
        await report(store, 1, 3)
        await wait_until_async(lambda: store.readings > readings)
        store.is_down = False
        await report(store, 4)
        await wait_until_async(lambda: client.ids == [1, 2, 3, 4])


async def test_a_store_that_fails_while_somebody_catches_up_ends_the_stream(
    store: Counting, clients: Any
) -> None:
    await report(store, 1, 3)
    async with going(store) as hub:
        store.is_down = True
        client = await clients(hub, after=0)
        await client.task
        assert client.is_over
        assert client.messages == []


async def test_events_of_other_replicas_are_found_without_being_woken(
    store: Counting, clients: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_POLL", (0.01, 0.02))

    class Silent:
        """A store that wakes nobody."""

        def __getattr__(self, name: str) -> Any:
            if name == "wait_for_events":
                raise AttributeError(name)
            return getattr(store, name)

    silent = Silent()
    assert not isinstance(silent, WakingStore)
    async with going(silent) as hub:
        client = await clients(hub)
        await report(store, 1, 2)
        await wait_until_async(lambda: client.ids == [1, 2])


async def test_events_that_are_gone_are_owned_up_to_and_the_rest_is_told(
    store: Counting, clients: Any
) -> None:
    await report(store, 1, 10)
    async with going(store) as hub:
        before = await clients(hub, after=3)
        await wait_until_async(lambda: before.ids == list(range(4, 11)))
        await store.prune_history(before=10**18, limit=5)
        client = await clients(hub, after=3)
        await wait_until_async(lambda: client.ids == list(range(6, 11)))
        assert client.messages[0] == Event("reset", '{"firstEventId":6,"after":3}', "5")
        just = await clients(hub, after=5)
        whole = await clients(hub, after=0)
        await wait_until_async(lambda: just.ids == whole.ids == list(range(6, 11)))
        assert {m.event for m in just.messages + whole.messages} == {"transition"}


async def test_a_newcomer_gets_nothing_from_before_though_the_hub_is_behind(
    store: Counting, clients: Any
) -> None:
    hub = Hub(store, backlog=1_000_000)  # nothing keeps it going yet
    first = await clients(hub)
    await report(store, 1, 4)
    second = await clients(hub)
    async with running({"events": hub.loop()}, asyncio.sleep):
        await report(store, 5)
        await wait_until_async(lambda: first.ids == [1, 2, 3, 4, 5])
        await wait_until_async(lambda: second.ids == [5])


async def test_a_closed_hub_says_goodbye_to_those_who_are_there_and_who_come(
    store: Counting, clients: Any
) -> None:
    await report(store, 1)
    async with going(store) as hub:
        there = await clients(hub, after=0)
        await wait_until_async(lambda: there.ids == [1])
        hub.close()
        await there.task
        late = await clients(hub, after=1)
        await late.task
    assert [there.messages[-1].event, late.messages[-1].event] == ["bye", "bye"]
    assert there.messages[-1].event_id == "1"
