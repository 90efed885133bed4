"""Hearing of events that any replica has written."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from opscore_middleware.stores.bell import Bell
from opscore_middleware.stores.postgres_address import Address
from opscore_middleware.stores.postgres_connections import connect
from opscore_middleware.stores.postgres_errors import DRIVER_ERRORS

__all__ = ["CHANNEL", "Listener"]

CHANNEL: Final = "opscore_events"
"""What is notified, once for each commit with events; a hint without a payload."""


class Listener:
    """Listens on a connection of its own, from the first wait on.

    Behind a pooler that hands connections from one to the other nothing is heard, and a wait ends
    with its time.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._bell = Bell()
        self._connecting = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def wait(self, timeout: float, *, after: int) -> int:
        """Return when there may be new events, at the latest after `timeout` seconds.

        Any number may wait, each with what it was answered last, 0 at first.
        """
        try:
            async with asyncio.timeout(timeout):
                async with self._connecting:
                    if self._connection is None:
                        await self._try_to_listen()
                return await self._bell.wait(timeout, after=after)
        except TimeoutError:
            return after

    async def close(self) -> None:
        """Listen no more. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._lost)
            connection.terminate()

    async def _try_to_listen(self) -> None:
        try:
            connection = await connect(self._address)
            try:
                await connection.add_listener(CHANNEL, self._heard)
            except BaseException:
                connection.terminate()
                raise
        except DRIVER_ERRORS:
            return  # whoever looks for events next will be told why there are none
        connection.add_termination_listener(self._lost)
        self._connection = connection
        # What came while nobody listened has to be looked for.
        self._bell.ring()

    def _heard(self, *notification: object) -> None:
        self._bell.ring()

    def _lost(self, connection: object) -> None:
        self._connection = None
        self._bell.ring()
