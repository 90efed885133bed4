"""Asks an agent all the time, in a process of its own that loads next to nothing.

`python -m tests.benchmarks.drive PORT CONNECTIONS REQUESTS` prints the rate, and what each took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

__all__ = ["REQUEST"]

REQUEST = b"POST /job HTTP/1.1\r\nhost: agent\r\ncontent-length: 2\r\n\r\nhi"


class Connection(asyncio.Protocol):
    """Keeps one request in flight until there are none left."""

    def __init__(self, left: list[int], took: list[float], done: asyncio.Future[None]) -> None:
        self._left = left
        self._took = took
        self._done = done
        self._start = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        if not data.endswith(b"ok"):
            return
        self._took.append(time.perf_counter() - self._start)
        self._ask()

    def _ask(self) -> None:
        if self._left[0] <= 0:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._left[0] -= 1
        self._start = time.perf_counter()
        self._transport.write(REQUEST)


async def drive(port: int, connections: int, requests: int) -> None:
    loop = asyncio.get_running_loop()
    left, took = [requests], list[float]()
    ends = [loop.create_future() for _ in range(connections)]
    start = time.perf_counter()
    for end in ends:
        await loop.create_connection(lambda end=end: Connection(left, took, end), "127.0.0.1", port)
    await asyncio.gather(*ends)
    rate = len(took) / (time.perf_counter() - start)
    print(rate, *took)


if __name__ == "__main__":
    asyncio.run(drive(*map(int, sys.argv[1:])))
