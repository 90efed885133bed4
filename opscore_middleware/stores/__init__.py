"""Where Ops-Core keeps what it knows: one promise (`core.store.Store`), kept in SQL."""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlsplit

from opscore_middleware.core.store import Store
from opscore_middleware.errors import ConfigurationError
from opscore_middleware.stores.sqlite import SqliteStore
from opscore_middleware.stores.sqlite_file import MEMORY

__all__ = ["open_store"]

_EXAMPLES = (
    "write sqlite:///opscore.db for a file in the working directory, "
    "sqlite:////var/lib/opscore/opscore.db for an absolute path, "
    "or sqlite:///:memory: to keep nothing"
)


def open_store(url: str) -> Store:
    """Return the store that `url` names; `await store.open()` is the caller's next step.

    Raises `ConfigurationError` for an address that names no store of this release.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        raise _refusal("cannot be read") from None
    engine = parts.scheme.partition("+")[0]
    if engine == "sqlite":
        return SqliteStore(_path(parts))
    if engine in {"postgresql", "postgres"}:
        raise _refusal("names PostgreSQL, which this release cannot keep its data in yet")
    raise _refusal("has no scheme that names a store")


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
