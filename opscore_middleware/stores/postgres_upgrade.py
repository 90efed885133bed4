"""Bringing a PostgreSQL database's schema up to date, while other replicas may do the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from opscore_middleware.errors import ConfigurationError
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_locks import SCHEMA
from opscore_middleware.stores.schema import Step

__all__ = ["schema_version", "upgrade"]

logger = logging.getLogger(__name__)

_OLDEST_SERVER: Final = 14
_STEPS_WITHIN: Final = 3600.0
"""How long a step, or another replica that takes it, may last, in seconds: tables may be large."""


async def upgrade(connection: Connection, database: str, steps: Sequence[Step]) -> None:
    """Take the steps that the database has not taken, all of them or none.

    Replicas of the release before may go on meanwhile. `database` is what messages call it.

    Raises `ConfigurationError` for a server or a database that cannot be used, and what the driver
    raises when a step fails.
    """
    _check_server(connection, database)
    newest = steps[-1].version
    if await schema_version(connection, database, newest) == newest:
        return
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA})", timeout=_STEPS_WITHIN)
        await connection.execute(_YIELD)
        # Another replica may have been first.
        version = await schema_version(connection, database, newest)
        if version == 0:
            await _prepare(connection)
        for step in steps:
            if step.version > version:
                await connection.execute(step.sql, timeout=_STEPS_WITHIN)
                await connection.execute(_TAKEN, step.version)
    if 0 < version < newest:
        logger.info(
            "Upgraded the database %s from schema version %d to %d", database, version, newest
        )


def _check_server(connection: Connection, database: str) -> None:
    version = connection.get_server_version()
    if version.major < _OLDEST_SERVER:
        raise ConfigurationError(
            f"The server of the database {database} is PostgreSQL {version.major}, and "
            f"{_OLDEST_SERVER} is the oldest that will do; upgrade it, or name another.",
            database=database,
            version=version.major,
        )
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database {database} is encoded in {encoding}, and only UTF8 holds everything "
            "that agents say; make one with CREATE DATABASE ... ENCODING 'UTF8'.",
            database=database,
            encoding=encoding,
        )


async def schema_version(connection: Connection, database: str, newest: int) -> int:
    """Return the version of a database's schema, 0 where it has none yet.

    Raises `ConfigurationError` for one above `newest`.
    """
    if not await connection.fetchval(_HAS_TABLE):
        return 0
    version: int = await connection.fetchval(
        "SELECT coalesce(max(version), 0) FROM opscore.opscore_schema"
    )
    if version > newest:
        raise ConfigurationError(
            f"The database {database} has schema version {version}, and this release knows none "
            f"above {newest}; install the release that wrote it, or a newer one.",
            database=database,
            version=version,
            newest=newest,
        )
    return version


async def _prepare(connection: Connection) -> None:
    # Asked before, since making what is there needs the right to make it all the same.
    if not await connection.fetchval(_HAS_SCHEMA):
        await connection.execute("CREATE SCHEMA opscore")
    await connection.execute(_TABLE)


# Whoever waits for a table keeps all who come later waiting too. So give up, and try again, where
# somebody reads it for long, rather than hold up the replicas that write.
_YIELD: Final = "SET LOCAL lock_timeout = '5s'"

# Read from the catalogue, as to_regclass() does not: it may remember that there was none before
# another replica's lock was waited for.
_HAS_SCHEMA: Final = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'opscore')"
_HAS_TABLE: Final = """
    SELECT EXISTS (SELECT FROM pg_tables
                   WHERE schemaname = 'opscore' AND tablename = 'opscore_schema')"""
_TABLE: Final = """
    CREATE TABLE opscore.opscore_schema (
        version  integer PRIMARY KEY,
        taken_at timestamptz NOT NULL DEFAULT now()
    )"""
_TAKEN: Final = "INSERT INTO opscore.opscore_schema (version) VALUES ($1)"
