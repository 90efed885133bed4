"""Where Ops-Core keeps what it knows: one promise (`core.store.Store`), kept in SQL."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from opscore_middleware.core.runs.store import RunStore
from opscore_middleware.core.store import Store
from opscore_middleware.errors import ConfigurationError, MissingExtra
from opscore_middleware.stores.schema import SchemaStatus
from opscore_middleware.stores.sqlite import SqliteStore
from opscore_middleware.stores.sqlite_file import MEMORY

__all__ = ["Database", "open_store"]


class Database(Store, RunStore, Protocol):
    """A store that somebody else keeps, with a schema that follows the releases."""

    async def schema(self) -> SchemaStatus:
        """Return how far its schema has come, without changing anything; before `open()`.

        Raises as `open()` does.
        """
        ...


_EXAMPLES = (
    "write sqlite:///opscore.db for a file in the working directory, "
    "sqlite:////var/lib/opscore/opscore.db for an absolute path, "
    "sqlite:///:memory: to keep nothing, "
    "or postgresql://user:password@host/database for several replicas"
)


def open_store(url: str) -> Database:
    """Return the store that `url` names; `await store.open()` is the caller's next step.

    Raises `ConfigurationError` for an address that names no store of this release, and
    `MissingExtra` for one whose driver is not installed.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        raise _refusal("cannot be read") from None
    engine = parts.scheme.partition("+")[0]
    if engine == "sqlite":
        return SqliteStore(_path(parts))
    if engine in {"postgresql", "postgres"}:
        return _postgres(parts)
    raise _refusal("has no scheme that names a store")


def _postgres(parts: SplitResult) -> Database:
    try:
        # The driver is an extra of its own; SQLite does without it.
        from opscore_middleware.stores.postgres import PostgresStore
        from opscore_middleware.stores.postgres_address import Address
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "asyncpg":
            raise
        raise MissingExtra("A PostgreSQL database", "postgres") from None
    try:
        address = Address.of(parts)
    except ValueError as error:
        raise _refusal(str(error)) from None
    return PostgresStore(address)


def _path(parts: SplitResult) -> str:
    if parts.netloc:
        raise _refusal("names a host where SQLite has none (three slashes, not two)")
    if parts.query or parts.fragment:
        raise _refusal("carries options, and SQLite takes none here")
    if parts.path == "/":
        raise _refusal("names no file")
    return unquote(parts.path.removeprefix("/")) or MEMORY


def _refusal(what: str) -> ConfigurationError:
    # The address itself is not repeated: it may hold a password.
    return ConfigurationError(f"The store's address {what}; {_EXAMPLES}.")
