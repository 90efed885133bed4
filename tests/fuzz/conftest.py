"""The Ops-Core that is asked, on either store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from starlette.testclient import TestClient

from tests.fuzz.support import MEMORY, PEER, RIGHT, app, begin, register
from tests.support.postgres import database_of_its_own, running_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return the address of a PostgreSQL server."""
    with ExitStack() as stack:
        server = os.environ.get("OPSCORE_TEST_DATABASE_URL")
        if server is None:
            server = stack.enter_context(running_postgres()).local_url
        yield server


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the address of an empty store."""
    with _empty_store(request) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def address_of_stories(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the address of an empty store that no other Ops-Core uses, so that it can be emptied
    again and again."""
    with _empty_store(request) as address:
        yield address


@contextmanager
def _empty_store(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield MEMORY
    else:
        with database_of_its_own(request.getfixturevalue("postgres_server")) as address:
            yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[TestClient]:
    """Return a client of an Ops-Core that knows agent `a`, its session `s` and workflow `w`."""
    with TestClient(app(address), raise_server_exceptions=False, client=PEER) as client:
        register(client)
        session = {"agentId": "a", "sessionId": "s"}
        assert client.post("/v1/opscore/sessions", json=session, headers=RIGHT).status_code == 201
        begin(client)
        yield client
