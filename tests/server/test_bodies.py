"""Bodies that are too large are refused before they are read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from opscore_middleware.server import Settings, create_app
from tests.server.conftest import KEY, Connect, everything, register, report_of

LIMIT = 4096
ROUTES = ["/v1/opscore/agent/{id}/state", "/v1/opscore/agents", "/nowhere"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("size", [LIMIT + 1, 5 * 1024 * 1024])
def test_a_body_over_the_limit_is_refused_and_changes_nothing(
    connect: Connect, route: str, size: int
) -> None:
    client = connect(max_body_bytes=LIMIT)
    agent_id = register(client)
    before = everything(client, agent_id)
    body = json.dumps(report_of(agent_id, details={"x": "y" * size})).encode()
    answer = client.post(route.format(id=agent_id), content=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.json()["maxBytes"] == LIMIT
    assert everything(client, agent_id) == before


def test_five_megabytes_are_too_much_for_a_report_and_fine_for_a_batch(
    client: TestClient, agent_id: str
) -> None:
    report = report_of(agent_id, details={"x": "y" * 5 * 1024 * 1024})
    single = client.post(f"/v1/opscore/agent/{agent_id}/state", json=report)
    assert (single.status_code, single.json()["code"]) == (413, "body_too_large")
    batch = client.post(f"/v1/opscore/agent/{agent_id}/states", json={"reports": [report]})
    assert batch.status_code == 202


def test_a_batch_has_a_limit_of_its_own(connect: Connect) -> None:
    client = connect(max_batch_bytes=LIMIT)
    agent_id = register(client)
    report = report_of(agent_id, details={"x": "y" * LIMIT})
    answer = client.post(f"/v1/opscore/agent/{agent_id}/states", json={"reports": [report]})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_body_of_exactly_the_limit_is_taken(connect: Connect) -> None:
    client = connect(max_body_bytes=LIMIT)
    agent_id = register(client)
    body = json.dumps(report_of(agent_id)).encode()
    path = f"/v1/opscore/agent/{agent_id}/state"
    assert client.post(path, content=body.ljust(LIMIT)).status_code == 202
    assert client.post(path, content=body.ljust(LIMIT + 1)).status_code == 413


Send = Callable[[dict[str, Any]], Awaitable[None]]


class Wire:
    """One request as a server hands it in, chunk by chunk, that counts what is asked for."""

    def __init__(self, chunk: bytes, *, disconnect_after: int | None = None) -> None:
        self.received = 0
        self.sent: list[dict[str, Any]] = []
        self._chunk = chunk
        self._disconnect_after = disconnect_after

    async def receive(self) -> dict[str, Any]:
        if self.received == self._disconnect_after:
            return {"type": "http.disconnect"}
        self.received += 1
        return {"type": "http.request", "body": self._chunk, "more_body": True}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def post(self, path: str, *headers: tuple[bytes, bytes], key: str | None = None) -> None:
        app = create_app(
            Settings.resolve(database_url="sqlite:///:memory:", max_body_bytes=LIMIT, api_key=key)
        )
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": list(headers),
        }
        await app(scope, self.receive, self.send)  # type: ignore[arg-type]


@pytest.mark.asyncio
@pytest.mark.parametrize("route", ROUTES)
async def test_an_endless_body_is_read_no_further_than_the_limit(route: str) -> None:
    wire = Wire(b"x" * 1024)
    await wire.post(route.format(id="a"), (b"transfer-encoding", b"chunked"))
    assert wire.sent[0]["status"] == 413
    assert wire.received == LIMIT // 1024 + 1


@pytest.mark.asyncio
@pytest.mark.parametrize("route", ROUTES)
async def test_a_length_over_the_limit_is_refused_unread(route: str) -> None:
    wire = Wire(b"x")
    await wire.post(route.format(id="a"), (b"content-length", str(LIMIT + 1).encode()))
    assert wire.sent[0]["status"] == 413
    assert wire.received == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("route", ROUTES)
async def test_without_the_key_nothing_of_the_body_is_read(route: str) -> None:
    wire = Wire(b"x")
    await wire.post(route.format(id="a"), key=KEY)
    assert wire.sent[0]["status"] == 401
    assert wire.received == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("route", ROUTES)
async def test_a_client_that_leaves_in_the_middle_is_answered_nothing(route: str) -> None:
    wire = Wire(b"{", disconnect_after=2)
    await wire.post(route.format(id="a"))
    assert wire.sent == []
