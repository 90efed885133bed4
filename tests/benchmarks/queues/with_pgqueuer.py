"""pgqueuer, on PostgreSQL."""

from __future__ import annotations

import asyncio
import time

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from tests.benchmarks.queues.measure import Jobs, arguments, tell


async def main() -> None:
    address, count, at_once = arguments()
    jobs = Jobs()
    own, workers = await asyncpg.connect(address), await asyncpg.connect(address)
    queries = Queries(AsyncpgDriver(own))
    await queries.install()
    queue = PgQueuer(AsyncpgDriver(workers))

    @queue.entrypoint("job")
    async def job(_job: Job) -> None:
        jobs.work()

    jobs.expect(count)
    await queries.enqueue(["job"] * count, [None] * count, [0] * count)
    start = time.perf_counter()
    worker = asyncio.create_task(queue.run(batch_size=min(at_once, 100)))
    await jobs.over()
    rate = count / (time.perf_counter() - start)
    wait = await jobs.waits(lambda: queries.enqueue("job", None))
    queue.shutdown.set()
    await worker
    await own.close()
    await workers.close()
    tell(rate=rate, wait=wait, durable="the job, each step of it")


asyncio.run(main())
