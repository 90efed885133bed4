"""One SQLite database: connections to it, its schema, and who may hold it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from opscore_middleware.errors import ConfigurationError, OpsCoreError, StoreUnavailable
from opscore_middleware.stores.schema import steps
from opscore_middleware.stores.sqlite_upgrade import APPLICATION_ID, schema_version, upgrade

__all__ = ["MEMORY", "SqliteFile"]

MEMORY: Final = ":memory:"

_OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables
_CHECKPOINT_PAGES: Final = 8_000  # 32 MB of log: a checkpoint then costs little per commit

_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "free space on its disk",
    sqlite3.SQLITE_BUSY: "another program holds it; close that",
    sqlite3.SQLITE_LOCKED: "another program holds it; close that",
    sqlite3.SQLITE_READONLY: "make the file and its directory writable",
    sqlite3.SQLITE_CANTOPEN: "make the file and its directory writable",
    sqlite3.SQLITE_PERM: "make the file and its directory writable",
    sqlite3.SQLITE_IOERR: "check its disk",
    sqlite3.SQLITE_PROTOCOL: "put the file on a local disk",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup",
    sqlite3.SQLITE_NOTADB: "name another file, or restore it from a backup",
    sqlite3.SQLITE_NOMEM: "free memory",
}
# What no waiting mends: the path itself is wrong.
_SETTING_CODES: Final = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}


class SqliteFile:
    """A database by its path, or `:memory:`.

    Args:
        path: the file; made when it is not there, in a directory that is.
        busy_timeout: how long to wait for another program that holds the file, in seconds.
    """

    def __init__(self, path: str, *, busy_timeout: float) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._lock: sqlite3.Connection | None = None
        self._place = Path(path).absolute()
        self._number = 0

    @property
    def in_memory(self) -> bool:
        """Whether there is no file, and only one connection sees the data."""
        return self.path == MEMORY

    def open(self) -> sqlite3.Connection:
        """Take the file for this process, bring its schema up to date, and return the writer's
        connection.

        Raises `ConfigurationError` when the file cannot be Ops-Core's, and `StoreUnavailable`
        when it can, but not now.
        """
        _check_library()
        if not self.in_memory:
            self._check_path()
        try:
            if not self.in_memory:
                self._take()
            connection = self._opened()
        except sqlite3.Error as error:
            self.release()
            raise self._refusal(error) from error
        except OpsCoreError:
            self.release()
            raise
        if not self.in_memory:
            self._number = self._place.stat().st_ino
        return connection

    def check_place(self) -> None:
        """Raise `StoreUnavailable` when the file that was opened is not the one at its path.

        SQLite would write on to a file that nobody finds again, with a log that does not belong to
        the one that has taken its place.
        """
        if self.in_memory:
            return
        try:
            found = self._place.stat().st_ino
        except OSError as error:
            raise self._moved(error.strerror or "it is not there") from error
        if found != self._number:
            raise self._moved("another file has taken its place")

    def connect(self) -> sqlite3.Connection:
        """Return one more connection; it may be handed from thread to thread."""
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = sqlite3.Row
        return connection

    def schema_version(self) -> int:
        """Return the version of the file's schema, 0 where there is none yet.

        Reads beside a process that serves the file, and changes nothing. Raises as `open` does.
        """
        newest = steps("sqlite")[-1].version
        if self.in_memory:
            return newest  # made anew with each start
        self._check_path()
        if not Path(self.path).exists():
            return 0
        try:
            with closing(
                sqlite3.connect(
                    f"{Path(self.path).absolute().as_uri()}?mode=ro",
                    uri=True,
                    timeout=self._busy_timeout,
                )
            ) as connection:
                self._check_owner(connection)
                return schema_version(connection, Path(self.path), newest)
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def release(self) -> None:
        """Let other processes have the file."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def unavailable(self, error: Exception) -> StoreUnavailable | None:
        """Say what keeps the database from working; None when `error` is about something else."""
        code = getattr(error, "sqlite_errorcode", None)
        remedy = None if code is None else _REMEDIES.get(code & 0xFF)
        if remedy is None:
            return None
        return StoreUnavailable(
            f"The database {self.path} cannot be used right now ({error}); {remedy}.",
            path=self.path,
        )

    def _moved(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"The database {self.path} was taken away while it was in use ({reason}), so nothing "
            "is written any more; stop the server, put the file in its place, and start it again.",
            path=self.path,
        )

    def _check_path(self) -> None:
        path = Path(self.path)
        if path.is_dir():
            raise ConfigurationError(
                f"The database {self.path} is a directory; name a file in it.", path=self.path
            )
        if not path.absolute().parent.is_dir():
            raise ConfigurationError(
                f"The database {self.path} has no directory to be in; "
                f"make {path.absolute().parent} or name another path.",
                path=self.path,
            )

    def _take(self) -> None:
        # A lock that SQLite itself holds on a file of its own: it works wherever SQLite does, and
        # the system lets go of it when the process dies, however it dies.
        lock = sqlite3.connect(
            f"{Path(self.path).resolve()}.lock",
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise ConfigurationError(
                f"The database {self.path} is already in use, by another process or by this one. "
                "A SQLite file serves one process at a time, since reports are gathered and "
                "numbered in its memory: stop the other one, run a single worker, or name another "
                "file; several replicas need PostgreSQL.",
                path=self.path,
            ) from None
        self._lock = lock

    def _opened(self) -> sqlite3.Connection:
        connection = self.connect()
        try:
            self._check_owner(connection)
            self._configure(connection)
            upgrade(connection, None if self.in_memory else Path(self.path), steps("sqlite"))
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        if tables and owner != APPLICATION_ID:
            raise ConfigurationError(
                f"The database {self.path} belongs to another program; name another file.",
                path=self.path,
            )

    def _configure(self, connection: sqlite3.Connection) -> None:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal" and not self.in_memory:
            raise ConfigurationError(
                f"The disk of the database {self.path} allows no write-ahead log (it stays with "
                f"{mode!r}); put the file on a local disk.",
                path=self.path,
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Statement journals in memory: half of the commits would make and unlink a file for one.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        # The log grows while somebody reads, as a backup does; afterwards it shrinks again.
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA journal_size_limit = {2 * _CHECKPOINT_PAGES * page}")

    def _refusal(self, error: sqlite3.Error) -> OpsCoreError:
        reason = self.unavailable(error)
        if reason is None:
            return StoreUnavailable(
                f"The database {self.path} cannot be opened ({error}); name another file, or "
                "restore it from a backup.",
                path=self.path,
            )
        if error.sqlite_errorcode & 0xFF in _SETTING_CODES:
            return ConfigurationError(reason.message, path=self.path)
        return reason


def _check_library() -> None:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(
            f"SQLite {sqlite3.sqlite_version} is too old, "
            f"{'.'.join(map(str, _OLDEST_SQLITE))} is the oldest that will do; use a Python that "
            "is built with a newer one (those of python.org and uv are).",
            version=sqlite3.sqlite_version,
        )
