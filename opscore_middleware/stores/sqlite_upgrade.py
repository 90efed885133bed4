"""Bringing a SQLite database's schema up to date, with a copy of the old one beside it."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final

from opscore_middleware.errors import ConfigurationError, StoreUnavailable
from opscore_middleware.stores.schema import Step

__all__ = ["APPLICATION_ID", "schema_version", "upgrade"]

logger = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x4F707343  # "OpsC"


def upgrade(connection: sqlite3.Connection, path: Path | None, steps: Sequence[Step]) -> None:
    """Take the steps that the database has not taken, all of them or none.

    Nobody else may use the database meanwhile. One that holds data is copied first, to
    `<path>.v<version>.bak`; no copy is ever overwritten. `path` is None for one in memory.

    Raises `ConfigurationError` for a database of a newer release, `StoreUnavailable` when the copy
    cannot be made, and `sqlite3.Error` when a step fails.
    """
    newest = steps[-1].version
    version = schema_version(connection, path, newest)
    if version == newest:
        return
    copy = _copy(connection, path, version) if path is not None and version > 0 else None
    pending = "\n".join(step.sql for step in steps if step.version > version)
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{pending}\n"
        f"PRAGMA application_id = {APPLICATION_ID};\n"
        f"PRAGMA user_version = {newest};\nCOMMIT;"
    )
    if copy is not None:
        logger.info(
            "Upgraded the database %s from schema version %d to %d; the old one is kept in %s",
            path,
            version,
            newest,
            copy,
        )


def schema_version(connection: sqlite3.Connection, path: Path | None, newest: int) -> int:
    """Return the version of a database's schema, 0 where it has none yet.

    Raises `ConfigurationError` for one above `newest`.
    """
    version: int
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > newest:
        raise ConfigurationError(
            f"The database {path} has schema version {version}, and this release knows none above "
            f"{newest}; install the release that wrote it, or a newer one.",
            path=str(path),
            version=version,
            newest=newest,
        )
    return version


def _copy(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Copy the database, and return where to once that is on disk under its final name."""
    names = (f".v{version}{'' if n == 1 else f'.{n}'}.bak" for n in count(1))
    copy = next(c for c in (Path(f"{path}{name}") for name in names) if not c.exists())
    part = Path(f"{path}.bak.part")
    try:
        part.unlink(missing_ok=True)  # what a crash left
        with closing(sqlite3.connect(part)) as target:
            connection.backup(target)
        _sync(part)
        part.rename(copy)
        _sync(copy.parent)
    except OSError as error:
        raise StoreUnavailable(
            f"The database {path} has schema version {version} and was not upgraded, since no "
            f"copy of it could be made beside it ({error}); mend that, or free space.",
            path=str(path),
        ) from error
    return copy


def _sync(path: Path) -> None:
    # A directory too: a name is on disk once its directory is.
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no directories
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
