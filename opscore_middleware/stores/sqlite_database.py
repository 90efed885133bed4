"""A SQLite database that is in use: its file, the thread that writes and those that read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Protocol, TypeVar

from opscore_middleware.core.histogram import Histogram
from opscore_middleware.core.store import COMMIT_SIZES
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores.bell import Bell
from opscore_middleware.stores.schema import SchemaStatus, status_of, steps
from opscore_middleware.stores.sqlite_file import SqliteFile
from opscore_middleware.stores.sqlite_readers import SqliteReaders
from opscore_middleware.stores.sqlite_words import end_turn
from opscore_middleware.stores.sqlite_writer import SqliteWriter

__all__ = ["SqliteDatabase"]

T = TypeVar("T")


class _Reads(Protocol):
    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T: ...


class SqliteDatabase:
    """What the verbs on SQLite stand on.

    Args:
        path: the file, or `:memory:`.
        busy_timeout: how long to wait for another program that holds the file, in seconds.
    """

    name = "sqlite"

    def __init__(self, path: str, *, busy_timeout: float = 5.0) -> None:
        self.commits = Histogram(COMMIT_SIZES)
        self._file = SqliteFile(path, busy_timeout=busy_timeout)
        self._writer: SqliteWriter | None = None
        self._readers: SqliteReaders | None = None
        self._bell = Bell()

    def __repr__(self) -> str:
        return f"SqliteStore({self._file.path!r})"

    async def open(self) -> None:
        await asyncio.to_thread(self._open)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    async def schema(self) -> SchemaStatus:
        found = await asyncio.to_thread(self._file.schema_version)
        path = self._file.path
        return status_of(self.name, f"sqlite:///{path}", found=found, known=steps("sqlite"))

    async def ping(self) -> None:
        await self._open_writer().run(lambda connection: connection.execute("SELECT 1").fetchone())

    def _open_writer(self) -> SqliteWriter:
        if self._writer is None:
            raise StoreUnavailable("The store is not open; call open() first.")
        return self._writer

    def _reads(self) -> _Reads:
        return self._readers or self._open_writer()

    def _open(self) -> None:
        connection = self._file.open()
        end_turn(connection)
        self._writer = SqliteWriter(
            connection,
            check=self._file.check_place,
            explain=self._file.unavailable,
            reported=self._bell.ring,
            commits=self.commits,
        )
        if not self._file.in_memory:
            self._readers = SqliteReaders(self._file.connect, explain=self._file.unavailable)

    def _close(self) -> None:
        # The readers first: the last connection to close puts the log into the file.
        if self._readers is not None:
            self._readers.close()
        if self._writer is not None:
            self._writer.close()
        self._file.release()
