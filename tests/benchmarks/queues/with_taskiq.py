"""taskiq, on a Redis stream, which keeps what was not acknowledged."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from taskiq.receiver import Receiver
from taskiq_redis.redis_broker import RedisStreamBroker

from tests.benchmarks.queues.measure import Jobs, arguments, tell


async def main() -> None:
    address, count, at_once = arguments()
    jobs = Jobs()
    broker = RedisStreamBroker(address)

    @broker.task(task_name="job")
    async def job() -> None:
        jobs.work()

    await broker.startup()
    jobs.expect(count)
    for first in range(0, count, 500):
        await asyncio.gather(*(job.kiq() for _ in range(first, min(count, first + 500))))
    over = asyncio.Event()
    with ThreadPoolExecutor(1) as threads:
        receiver = Receiver(broker, executor=threads, max_async_tasks=at_once, run_startup=False)
        start = time.perf_counter()
        receiving = asyncio.create_task(receiver.listen(over))
        await jobs.over()
        rate = count / (time.perf_counter() - start)
        wait = await jobs.waits(job.kiq)
        over.set()
        await asyncio.wait({receiving}, timeout=5)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    await broker.shutdown()
    tell(rate=rate, wait=wait, durable="what Redis has written: here each second")


asyncio.run(main())
