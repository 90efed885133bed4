"""saq, on Redis."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from saq import Queue, Worker

from tests.benchmarks.queues.measure import Jobs, arguments, tell


async def main() -> None:
    address, count, at_once = arguments()
    jobs = Jobs()

    async def job(_context: Any) -> None:
        jobs.work()

    queue = Queue.from_url(address)
    await queue.connect()
    worker = Worker(queue, functions=[("job", job)], concurrency=at_once)
    jobs.expect(count)
    for first in range(0, count, 500):
        await asyncio.gather(*(queue.enqueue("job") for _ in range(first, min(count, first + 500))))
    start = time.perf_counter()
    working = asyncio.create_task(worker.start())
    await jobs.over()
    rate = count / (time.perf_counter() - start)
    wait = await jobs.waits(lambda: queue.enqueue("job"))
    await worker.stop()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await queue.disconnect()
    tell(rate=rate, wait=wait, durable="what Redis has written: here each second")


asyncio.run(main())
