"""Whether the database is there."""

from __future__ import annotations

import pytest

from opscore_middleware.core.store import Store
from opscore_middleware.errors import StoreUnavailable

pytestmark = pytest.mark.asyncio


async def test_a_store_that_is_open_answers(store: Store) -> None:
    await store.ping()


async def test_a_store_that_is_closed_says_so(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.ping()
