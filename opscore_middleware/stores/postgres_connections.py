"""Connections to PostgreSQL: a few that are kept, and replaced when they are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores.postgres_address import Address
from opscore_middleware.stores.postgres_errors import DRIVER_ERRORS, unavailable

__all__ = ["Connection", "Connections", "connect"]

# Generic to the type checker alone.
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

_CONNECT_WITHIN: Final = 5.0
_ANSWER_WITHIN: Final = 30.0
_CLOSE_WITHIN: Final = 5.0


# Whoever has waited for a lock must see what was done meanwhile, whatever the database or its user
# is set to. Not at the start of a connection, where poolers refuse what they do not know.
_ISOLATION: Final = "SET default_transaction_isolation = 'read committed'"
_APPLICATION: Final = {"application_name": "opscore"}


class Connections:
    """Up to `size` connections to one database, made when they are needed, on one event loop.

    Args:
        address: where the database is.
        size: how many connections there are at most.
        settings: what else is set on each of them, as SQL.
        on_connect: called when one is made.
    """

    def __init__(
        self,
        address: Address,
        *,
        size: int,
        settings: str = "",
        on_connect: Callable[[], None] | None = None,
    ) -> None:
        self._address = address

        async def prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
            if on_connect is not None:
                on_connect()
            await connection.execute(f"{_ISOLATION}; {settings}")

        self._pool = asyncpg.create_pool(
            address.dsn,
            password=address.password,
            min_size=0,
            max_size=size,
            timeout=_CONNECT_WITHIN,
            command_timeout=_ANSWER_WITHIN,
            server_settings=_APPLICATION,
            init=prepare,
            # All who are lent a connection want it as it was set, so nothing is to be set back.
            reset=_leave,
        )
        self._closed = False

    async def open(self) -> None:
        """Get ready; nothing is connected yet. Raises what the driver raises."""
        await self._pool

    async def close(self) -> None:
        """Let go of every connection, of one that is busy after a few seconds. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            await asyncio.wait_for(self._pool.close(), _CLOSE_WITHIN)
        except (TimeoutError, *DRIVER_ERRORS):
            self._pool.terminate()

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Connection]:
        """Lend a connection. Raises what the driver raises."""
        async with self._pool.acquire(timeout=_CONNECT_WITHIN) as connection:
            try:
                yield connection
            except asyncpg.InternalClientError:
                # The driver has lost its place in what the server says, as when that is killed in
                # the middle of an answer, and would not find it again.
                connection.terminate()
                raise

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection. Raises `StoreUnavailable` for what keeps the database from working."""
        if self._closed:
            raise StoreUnavailable("The database is closed; the server is stopping.")
        try:
            async with self.raw() as connection:
                yield connection
        except DRIVER_ERRORS as error:
            reason = unavailable(error, self._address.shown)
            if reason is None:
                raise
            raise reason from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection within a transaction, which an error undoes."""
        async with self.connection() as connection, connection.transaction():
            yield connection


async def connect(address: Address) -> asyncpg.Connection[asyncpg.Record]:
    """Return a connection that is the caller's own. Raises what the driver raises."""
    return await asyncpg.connect(
        address.dsn,
        password=address.password,
        timeout=_CONNECT_WITHIN,
        command_timeout=_ANSWER_WITHIN,
        server_settings=_APPLICATION,
    )


async def _leave(connection: object) -> None:
    """Leave a connection that is given back as it is."""
