"""What is asked of each queue, and how it is told: as a line of JSON on standard output."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

__all__ = ["Jobs", "arguments", "tell"]

PAUSE = 0.02
"""Seconds between two jobs that come to a queue which has nothing to do."""


class Jobs:
    """Counts jobs that are done, and notes when the last of them was begun."""

    def __init__(self) -> None:
        self.begun_at = 0.0
        self._left = 0
        self._over = asyncio.Event()

    def expect(self, count: int) -> None:
        """Wait for so many from now on."""
        self._left = count
        self._over.clear()

    def work(self) -> None:
        """Do a job, which is nothing."""
        self.begun_at = time.perf_counter()
        self._left -= 1
        if self._left <= 0:
            self._over.set()

    async def over(self) -> None:
        """Wait until as many are done as were expected."""
        async with asyncio.timeout(300):
            await self._over.wait()

    async def waits(self, enqueue: Callable[[], Awaitable[object]], rounds: int = 100) -> float:
        """Return how long a lone job waits until it is begun, in milliseconds: the median."""
        waited = []
        for _ in range(rounds):
            await asyncio.sleep(PAUSE)
            self.expect(1)
            start = time.perf_counter()
            await enqueue()
            await self.over()
            waited.append((self.begun_at - start) * 1000)
        return statistics.median(waited)


def arguments() -> tuple[str, int, int]:
    """Return the queue's address, how many jobs to do and how many at once."""
    address, jobs, at_once = sys.argv[1:]
    return address, int(jobs), int(at_once)


def tell(*, rate: float, wait: float, durable: str) -> None:
    """Print jobs per second, the wait in milliseconds and what survives a crash."""
    print(json.dumps({"rate": rate, "wait": wait, "durable": durable}))
