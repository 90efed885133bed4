"""Every store that keeps the promise of `core.store.Store`, each empty and open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from opscore_middleware.core.store import Store
from opscore_middleware.stores import open_store


@pytest.fixture(params=["memory", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store of each kind."""
    return {"memory": "sqlite:///:memory:", "file": f"sqlite:///{tmp_path / 'opscore.db'}"}[
        request.param
    ]


@pytest_asyncio.fixture
async def store(address: str) -> AsyncIterator[Store]:
    """An empty, open store of each kind."""
    store = open_store(address)
    await store.open()
    yield store
    await store.close()
