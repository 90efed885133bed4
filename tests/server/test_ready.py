"""Whether the server can do its work, which is more than being there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from opscore_middleware.server import Settings, create_app
from opscore_middleware.stores.sqlite import SqliteStore
from tests.server.conftest import KEY
from tests.support.clock import MovedClock
from tests.support.holding import held
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.asyncio


class Ready:
    """A server with a clock that stands, asked whether it is ready."""

    def __init__(self, client: httpx.AsyncClient, store: SqliteStore, clock: MovedClock) -> None:
        self.client = client
        self.store = store
        self.clock = clock

    async def __call__(self) -> httpx.Response:
        return await self.client.get("/ready")

    async def settled(self) -> None:
        """Wait for the first second of listening."""
        await wait_until_async(self._is_ready)

    async def _is_ready(self) -> bool:
        return (await self()).status_code == 200


@pytest_asyncio.fixture
async def ready() -> AsyncIterator[Ready]:
    store, clock, hangs = SqliteStore(":memory:"), MovedClock(), asyncio.Event()

    async def once(seconds: float) -> None:
        await hangs.wait()

    app = create_app(Settings.resolve(api_key=KEY), store=store, clock=clock, pause=once)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://opscore") as client,
    ):
        yield Ready(client, store, clock)


async def test_a_server_that_listens_and_writes_is_ready_without_a_key(ready: Ready) -> None:
    await ready.settled()
    assert (await ready()).json() == {"status": "ready"}


async def test_health_checks_may_ask_by_head(ready: Ready) -> None:
    await ready.settled()
    for path in ("/ready", "/health"):
        assert (await ready.client.head(path)).status_code == 200


async def test_a_server_that_no_longer_listens_is_not_ready(ready: Ready) -> None:
    await ready.settled()
    ready.clock.move(6)
    answer = await ready()
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "listening" in answer.json()["detail"]
    assert answer.headers["Retry-After"] == "1"


async def test_a_server_without_its_database_is_not_ready_and_tells_no_stranger_where_it_is(
    ready: Ready,
) -> None:
    await ready.settled()
    await ready.store.close()
    answer = await ready()
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "database" in answer.json()["detail"]
    assert set(answer.json()) == {"detail", "code"}


async def test_a_database_that_hangs_is_not_waited_for(ready: Ready) -> None:
    await ready.settled()
    async with held(ready.store):
        answer = await ready()
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "2 seconds" in answer.json()["detail"]
    await ready.settled()
