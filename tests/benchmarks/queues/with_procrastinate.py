"""procrastinate, on PostgreSQL."""

from __future__ import annotations

import asyncio
import time

import procrastinate

from tests.benchmarks.queues.measure import Jobs, arguments, tell


async def main() -> None:
    address, count, at_once = arguments()
    jobs = Jobs()
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=address))

    @app.task(name="job")
    async def job() -> None:
        jobs.work()

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        jobs.expect(count)
        await job.batch_defer_async(*({} for _ in range(count)))
        start = time.perf_counter()
        options = {"concurrency": at_once, "install_signal_handlers": False}
        await app.run_worker_async(wait=False, **options)
        await jobs.over()
        rate = count / (time.perf_counter() - start)
        worker = asyncio.create_task(app.run_worker_async(**options))
        await asyncio.sleep(1)
        wait = await jobs.waits(job.defer_async)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    tell(rate=rate, wait=wait, durable="the job, each step of it")


asyncio.run(main())
