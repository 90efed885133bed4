"""Ops-Core in this process, on an in-memory store, with a clock that the test moves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.testclient import TestClient

from opscore_middleware.core.clock import SECOND, Clock
from opscore_middleware.server import Settings, create_app

KEY = "open-sesame"
NOW = 1_790_000_000 * SECOND
NOW_TEXT = "2026-09-21T14:13:20Z"

Connect = Callable[..., TestClient]


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPSCORE_", "AGENTKIT_", "LOG_")):
            monkeypatch.delenv(name)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a function that starts Ops-Core with the settings given and returns its client."""
    with ExitStack() as stack:

        def start(
            *, clock: Clock = lambda: NOW, peer: str = "testclient", **settings: Any
        ) -> TestClient:
            given = {"database_url": "sqlite:///:memory:", **settings}
            app = create_app(Settings.resolve(**given), clock=clock)
            return stack.enter_context(TestClient(app, client=(peer, 50000)))

        yield start


@pytest.fixture
def client(connect: Connect) -> TestClient:
    """Return a client of an Ops-Core without a key."""
    return connect()


@pytest.fixture
def agent_id(client: TestClient) -> str:
    """Return the id of a registered agent."""
    return register(client)


def register(client: TestClient, name: str = "summarizer", **fields: Any) -> str:
    """Register an agent and return its id."""
    answer = client.post("/v1/opscore/agents", json={"agentName": name, **fields})
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["agentId"])


def report_of(agent_id: str, state: str = "idle", **fields: Any) -> dict[str, Any]:
    """Return a report as an agent sends it."""
    return {"agentId": agent_id, "timestamp": NOW_TEXT, "state": state, "details": None, **fields}


def everything(client: TestClient, agent_id: str) -> Any:
    """Return all that the server knows, to see that a refusal left it as it was."""
    return (
        client.get("/v1/opscore/agents").json(),
        client.get(f"/v1/opscore/agents/{agent_id}/history").json(),
    )
