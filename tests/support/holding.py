"""A SQLite store whose writer a test holds, as a disk that hangs would."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opscore_middleware.stores.sqlite import SqliteStore
from tests.support.waiting import TIMEOUT, wait_until_async

__all__ = ["held"]


@asynccontextmanager
async def held(store: SqliteStore) -> AsyncIterator[None]:
    """Keep the writer in a transaction of its own, so that nothing is written meanwhile."""
    holds, release = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        holds.set()
        assert release.wait(TIMEOUT)

    holding = asyncio.ensure_future(store._open_writer().run(hold))
    await wait_until_async(holds.is_set, message="the writer to be held")
    try:
        yield
    finally:
        release.set()
        await holding
