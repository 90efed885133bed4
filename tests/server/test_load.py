"""More than the database keeps up with: refused at once, and nothing that was taken is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from starlette.types import Message

from opscore_middleware.server import Settings, create_app
from opscore_middleware.stores.sqlite import SqliteStore
from tests.server.conftest import report_of
from tests.support.holding import held
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.asyncio

LIMIT: Final = 5


@pytest.fixture
def store() -> SqliteStore:
    return SqliteStore(":memory:")


@pytest_asyncio.fixture
async def app(store: SqliteStore) -> AsyncIterator[FastAPI]:
    app = create_app(Settings.resolve(max_pending=LIMIT), store=store)
    async with app.router.lifespan_context(app):
        yield app


@pytest_asyncio.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://opscore") as client:
        await client.post("/v1/opscore/agents", json={"agentName": "a", "agentId": "a"})
        yield client


def reported(sequence: int) -> dict[str, Any]:
    return report_of("a", "active", instanceId="i", sequence=sequence)


def beat(client: httpx.AsyncClient) -> asyncio.Task[httpx.Response]:
    body = {"instanceId": "i", "state": "idle", "sequence": 1, "intervalSeconds": 10}
    return asyncio.create_task(client.post("/v1/opscore/agent/a/heartbeat", json=body))


async def fill(
    app: FastAPI, client: httpx.AsyncClient, first: int = 1
) -> list[asyncio.Task[httpx.Response]]:
    """Have as many reports wait as may."""
    path = "/v1/opscore/agent/a/state"
    waiting = [
        asyncio.create_task(client.post(path, json=reported(first + n))) for n in range(LIMIT)
    ]
    ingest = app.state.ingest
    await wait_until_async(lambda: ingest.reports.count == LIMIT, message="the queue to be full")
    return waiting


async def sequences(client: httpx.AsyncClient) -> list[int]:
    answer = await client.get("/v1/opscore/agents/a/history?order=asc")
    return [transition["sequence"] for transition in answer.json()["items"]]


async def test_more_than_may_wait_is_told_to_come_back_and_every_202_is_kept(
    app: FastAPI, client: httpx.AsyncClient, store: SqliteStore
) -> None:
    async with held(store):
        waiting = await fill(app, client)
        for _ in range(20):
            refused = await client.post("/v1/opscore/agent/a/state", json=reported(99))
            assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
            assert 1 <= int(refused.headers["Retry-After"]) <= 4
            assert refused.json()["retryAfter"] == int(refused.headers["Retry-After"])
        batch = {"reports": [reported(100)]}
        assert (await client.post("/v1/opscore/agent/a/states", json=batch)).status_code == 429
    assert [(await answer).status_code for answer in waiting] == [202] * LIMIT
    assert await sequences(client) == list(range(1, LIMIT + 1))
    again = await client.post("/v1/opscore/agent/a/state", json=reported(99))
    assert again.status_code == 202


async def test_who_is_sent_away_is_told_to_come_back_at_different_times(
    app: FastAPI, client: httpx.AsyncClient, store: SqliteStore
) -> None:
    async with held(store):
        waiting = await fill(app, client)
        path = "/v1/opscore/agent/a/state"
        told = {(await client.post(path, content=b"")).headers["Retry-After"] for _ in range(100)}
        assert len(told) > 1
    await asyncio.gather(*waiting)


async def test_a_full_server_reads_no_body(
    app: FastAPI, client: httpx.AsyncClient, store: SqliteStore
) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    path = "/v1/opscore/agent/a/state"
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    async with held(store):
        waiting = await fill(app, client)
        await app(scope, receive, send)
    assert sent[0]["status"] == 429
    await asyncio.gather(*waiting)


async def test_a_batch_may_go_over_the_limit_and_counts_whole(
    app: FastAPI, client: httpx.AsyncClient, store: SqliteStore
) -> None:
    path = "/v1/opscore/agent/a/states"
    reports = {"reports": [reported(n) for n in range(1, 3 * LIMIT + 1)]}
    async with held(store):
        batch = asyncio.create_task(client.post(path, json=reports))
        await wait_until_async(lambda: app.state.ingest.reports.count == 3 * LIMIT)
        refused = await client.post("/v1/opscore/agent/a/state", json=reported(99))
        assert refused.status_code == 429
    assert (await batch).json() == {"accepted": 3 * LIMIT, "duplicates": 0}
    assert app.state.ingest.reports.count == 0


async def test_no_flood_of_reports_keeps_a_heartbeat_out(
    app: FastAPI, client: httpx.AsyncClient, store: SqliteStore
) -> None:
    async with held(store):
        waiting = await fill(app, client)
        beats = [beat(client) for _ in range(LIMIT)]
        await wait_until_async(lambda: app.state.ingest.heartbeats.count == LIMIT)
        assert (await beat(client)).status_code == 429
    assert [(await answer).status_code for answer in beats] == [200] * LIMIT
    await asyncio.gather(*waiting)


async def test_a_refused_report_leaves_its_place_to_the_next(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    for _ in range(2 * LIMIT):
        answer = await client.post("/v1/opscore/agent/b/state", json=report_of("b"))
        assert answer.status_code == 404
    assert app.state.ingest.reports.count == 0


async def test_overload_is_told_of_as_it_begins_and_as_it_ends(
    app: FastAPI,
    client: httpx.AsyncClient,
    store: SqliteStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "opscore_middleware")
    async with held(store):
        waiting = await fill(app, client)
        for _ in range(30):
            await client.post("/v1/opscore/agent/a/state", json=reported(99))
    await asyncio.gather(*waiting)
    assert [record.message for record in caplog.records] == ["overloaded", "overload_over"]
    assert caplog.records[1].__dict__["refused"] == 30
