"""A way to a server that a test cuts at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from tests.support.waiting import TIMEOUT

__all__ = ["Cut", "CuttableWay", "cuttable_way"]


class Cut(Enum):
    """When the connection dies: before the server has heard the words, or before it is heard."""

    BEFORE_IT_HEARS = 1
    BEFORE_IT_IS_HEARD = 2


class CuttableWay:
    """Passes bytes on in both directions, until somebody says what it waits for.

    `port` is where it listens, on this machine.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._words = b""
        self._when: Cut | None = None

    def cut_at(self, words: bytes, when: Cut) -> None:
        """Cut the next connection that says `words`, once."""
        self._words, self._when = words, when

    async def serve(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        """Pass one connection on."""
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except ConnectionError:
            to_client.transport.abort()
            return
        back = asyncio.ensure_future(_pass_on(from_server, to_client))
        try:
            while data := await from_client.read(65536):
                if self._when is not None and self._words in data:
                    when, self._when = self._when, None
                    back.cancel()
                    if when is Cut.BEFORE_IT_IS_HEARD:
                        to_server.write(data)
                        await asyncio.wait({back})
                        await asyncio.wait_for(from_server.read(65536), TIMEOUT)
                    break
                to_server.write(data)
        except ConnectionError:
            pass
        finally:
            back.cancel()
            for writer in (to_client, to_server):
                writer.transport.abort()


@asynccontextmanager
async def cuttable_way(target: int) -> AsyncIterator[CuttableWay]:
    """Open a way to a port of this machine, and close it with all that goes through it."""
    way = CuttableWay(target)
    serving: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(way.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        pass
    # The server has closed; so does the way.
    writer.transport.abort()
