"""The Ops-Core that is asked, on either store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from starlette.testclient import TestClient

from tests.fuzz.support import MEMORY, PEER, RIGHT, app, begin, register
from tests.support.postgres import database_of_its_own, empty, running_postgres


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """Return the address of a PostgreSQL database of this room's own."""
    with ExitStack() as stack:
        server = os.environ.get("OPSCORE_TEST_DATABASE_URL")
        if server is None:
            server = stack.enter_context(running_postgres()).local_url
        yield stack.enter_context(database_of_its_own(server))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest) -> str:
    """Return the address of an empty store."""
    if request.param == "sqlite":
        return MEMORY
    url: str = request.getfixturevalue("database")
    empty(url)
    return url


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[TestClient]:
    """Return a client of an Ops-Core that knows agent `a`, its session `s` and workflow `w`."""
    with TestClient(app(address), raise_server_exceptions=False, client=PEER) as client:
        register(client)
        session = {"agentId": "a", "sessionId": "s"}
        assert client.post("/v1/opscore/sessions", json=session, headers=RIGHT).status_code == 201
        begin(client)
        yield client
