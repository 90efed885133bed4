"""Every store that keeps the promise of `core.store.Store`, each empty and open."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from opscore_middleware.core.runs.store import RunStore
from opscore_middleware.core.store import Store
from opscore_middleware.stores import open_store
from tests.stores.run_support import Everything
from tests.support.postgres import PostgresServer, database_of_its_own, empty, running_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this run's own."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mortal_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that tests may stop and kill, and that none relies on to run."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a database of this run's own, on a server of its own unless
    OPSCORE_TEST_DATABASE_URL names another.
    """
    given = os.environ.get("OPSCORE_TEST_DATABASE_URL")
    with database_of_its_own(
        given or request.getfixturevalue("postgres_server").local_url
    ) as database:
        yield database


@pytest.fixture
def postgres(postgres_database: str) -> str:
    """The address of a PostgreSQL database that holds nothing of Ops-Core's."""
    empty(postgres_database)
    return postgres_database


@pytest.fixture(params=["memory", "file", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store of each kind."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres")
        return url
    return "sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/opscore.db"


@pytest_asyncio.fixture
async def store(address: str) -> AsyncIterator[Store]:
    """An empty, open store of each kind."""
    store = open_store(address)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def running(store: Store) -> Everything:
    """An empty, open store of each kind, which keeps runs too."""
    assert isinstance(store, RunStore)
    everything: Everything = store
    return everything
