"""The threads that read from a SQLite file beside the one that writes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Final, TypeVar

from opscore_middleware.errors import StoreUnavailable

__all__ = ["SqliteReaders"]

T = TypeVar("T")

_READERS: Final = 2


class SqliteReaders:
    """Runs reads, each on one moment's view of the data, which has all that was answered before.

    Args:
        connect: opens a connection that may be handed from thread to thread.
        explain: turns a database's failure into `StoreUnavailable`; None for other errors.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        explain: Callable[[Exception], StoreUnavailable | None],
    ) -> None:
        self._explain = explain
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(_READERS):
            connection = connect()
            connection.execute("PRAGMA query_only = ON")
            self._free.put(connection)
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="opscore-sqlite-reader")
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one of the threads."""
        if self._closed:
            raise StoreUnavailable("The database is closed; the server is stopping.")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work)

    def close(self) -> None:
        """Finish the reads that have begun and let go of threads and connections. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._threads.shutdown()
        for _ in range(_READERS):
            self._free.get().close()

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._free.get()
        try:
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                if connection.in_transaction:  # what is wrong with a disk has ended it already
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            unavailable = self._explain(error)
            if unavailable is None:
                raise
            raise unavailable from error
        finally:
            self._free.put(connection)
