"""Tasks per second through the engine, without HTTP: claimed, begun, completed, all of it on disk.

    python -m tests.benchmarks dispatch --tasks 20000 --slots 1000 --finished 1000000

Agents are played by reports that go straight into the store, in batches, as the ingest of a busy
server brings them, and by results that are posted as handlers end, each by itself. Prints what each
store does: tasks per second, told either way; how long a task that comes to an idle fleet waits
until it is handed out, which is when a handler begins, and until it is known to be begun; and how
long a claim takes beside an empty table and beside one that holds many finished tasks. On
PostgreSQL also how many tasks per second several replicas do together, each a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from opscore_middleware.core.clock import system_clock
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.records import Claim, Run
from opscore_middleware.core.runs.tasks import TaskState
from opscore_middleware.core.runs.views import WorkflowStart
from opscore_middleware.stores import Database, open_store
from tests.benchmarks.dispatch_fleet import (
    AT_ONCE,
    ONE_TASK,
    Fleet,
    batched,
    collect_as_served,
    engine_on,
    enqueue,
    post_each,
)
from tests.benchmarks.dispatch_replicas import together
from tests.support.postgres import database_of_its_own, running_postgres

__all__ = ["main"]

_REST = 30.0
"""Seconds for which a database is left to write down what it was filled with at once: PostgreSQL's
checkpoint and vacuum of it take as long."""


async def _measure(address: str, options: argparse.Namespace) -> None:
    store = open_store(address)
    await store.open()
    try:
        engine = engine_on(store)
        fleet = Fleet(store, options.slots)
        await fleet.register()
        await engine.save_workflow(ONE_TASK)
        handed_out, begun = await _waits(engine, fleet)
        print(f"  idle, enqueued until handed out (the handler begins) {handed_out:8.2f} ms (p50)")
        print(f"  idle, enqueued until it is known to be begun         {begun:8.2f} ms (p50)")
        beside = await _claims(engine, fleet)
        print(f"  claim beside no other task                           {beside:8.2f} ms (p50)")
        await _fill(store, engine, options.finished)
        await asyncio.sleep(_REST if options.finished > 100_000 else 0)
        beside = await _claims(engine, fleet)
        print(
            f"  claim beside {options.finished:11,} finished tasks          {beside:8.2f} ms (p50)"
        )
        for told, drain in (("results posted", _post), ("reports", _report)):
            rate = await _rate(engine, fleet, options.tasks, drain)
            print(f"  claimed to completed, told by {told:14}         {rate:8,.0f} tasks/s")
        beside = await _claims(engine, fleet)
        print(
            f"  claim beside {2 * options.tasks:11,} just completed          {beside:8.2f} ms (p50)"
        )
    finally:
        await store.close()


def _nobody() -> None:
    """Is told that there is something to claim."""


async def _hear(engine: Engine) -> None:
    while (await engine.hear("bench")).more:
        pass


async def _waits(engine: Engine, fleet: Fleet, rounds: int = 50) -> tuple[float, float]:
    """Return how long it takes from a start until its task is handed out, and until it is known to
    be begun, in milliseconds."""
    handed_out, begun = [], []
    start = WorkflowStart(workflow_definition_id="bench")
    ready = asyncio.Event()
    engine.on_ready = ready.set
    for _ in range(rounds):
        ready.clear()
        began = time.perf_counter()
        starting = asyncio.create_task(engine.start("agent-0", start))
        await ready.wait()  # as the server does, which claims when it is told to
        claims = await engine.claim(AT_ONCE)
        handed_out.append(time.perf_counter() - began)
        await fleet.begin(claims)
        await _hear(engine)
        begun.append(time.perf_counter() - began)
        await starting
        await fleet.complete(claims)
        await _hear(engine)
    engine.on_ready = _nobody
    return median(handed_out) * 1000, median(begun) * 1000


async def _claims(engine: Engine, fleet: Fleet, rounds: int = 20) -> float:
    """Return how long the claim of one task takes, in milliseconds."""
    took = []
    for _ in range(rounds):
        await enqueue(engine, 1)
        began = time.perf_counter()
        claims = await engine.claim(1)
        took.append(time.perf_counter() - began)
        await fleet.begin(claims)
        await fleet.complete(claims)
        await _hear(engine)
    return median(took) * 1000


Drain = Callable[[Engine, Fleet, int], Awaitable[None]]
"""Gives so many tasks out, and has each come to its end."""


async def _report(engine: Engine, fleet: Fleet, tasks: int) -> None:
    """Have agents report that they began, and that they are done."""
    hearing = asyncio.Lock()

    async def tell(claims: Sequence[Claim]) -> None:
        await fleet.begin(claims)
        await fleet.complete(claims)
        async with hearing:  # as a server does, which has one loop for it
            await _hear(engine)

    await _drain(engine, fleet, tasks, tell)


async def _post(engine: Engine, fleet: Fleet, tasks: int) -> None:
    """Have a result posted for each."""
    await _drain(engine, fleet, tasks, partial(post_each, engine))


async def _drain(
    engine: Engine,
    fleet: Fleet,
    tasks: int,
    tell: Callable[[Sequence[Claim]], Coroutine[None, None, None]],
) -> None:
    """Give tasks out while what is told of others is on its way, as a server does."""
    telling: set[asyncio.Task[None]] = set()
    done = 0
    while done < tasks:
        claims = await engine.claim(max(1, len(fleet.agent_ids) // 4))
        done += len(claims)
        if claims:
            telling.add(asyncio.create_task(tell(claims)))
        else:
            over, telling = await asyncio.wait(telling, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*over)
    await asyncio.gather(*telling)


async def _rate(engine: Engine, fleet: Fleet, tasks: int, drain: Drain) -> float:
    """Return how many tasks per second are given out and completed, once they are enqueued."""
    await enqueue(engine, tasks)
    began = time.perf_counter()
    await drain(engine, fleet, tasks)
    took = time.perf_counter() - began
    unfinished = await fleet.store.unfinished()
    if any(unfinished.values()):
        raise RuntimeError(f"not all tasks were completed: {dict(unfinished)}")
    return tasks / took


async def _fill(store: Database, engine: Engine, finished: int) -> None:
    """Have as many tasks in the store that are over, in sessions of a thousand."""
    await enqueue(engine, 1)
    (claim,) = await engine.claim(1)
    run = await store.get_run(claim.task.session_id)
    if run is None:
        raise RuntimeError("the session that was just started is not there")
    await engine.cancel_session(run.session_id)
    for number, some in enumerate(batched(range(finished), 1000)):
        await store.start_run(_over(run, number, len(some)))


def _over(run: Run, number: int, tasks: int) -> Run:
    now = system_clock()
    (task,) = run.tasks.values()
    session_id = f"over-{number}"
    ended = {
        f"{session_id}-{place}": task._replace(
            task_id=f"{session_id}-{place}",
            session_id=session_id,
            state=TaskState.COMPLETED,
            agent_id=None,
            instance_id=None,
            ready_at=None,
            deadline_at=None,
            ended_at=now,
        )
        for place in range(tasks)
    }
    return run._replace(session_id=session_id, tasks=ended)


@contextmanager
def _postgres() -> Iterator[str]:
    with running_postgres() as server, database_of_its_own(server.local_url) as address:
        yield address


def main(arguments: Sequence[str]) -> None:
    """Measure each store in turn."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks dispatch")
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--store", choices=["sqlite", "postgres"])
    parser.add_argument("--replicas", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args(list(arguments))
    collect_as_served()
    if options.store != "postgres":
        with tempfile.TemporaryDirectory() as folder:
            print("SQLite, a file, synchronous=FULL")
            asyncio.run(_measure(f"sqlite:///{Path(folder)}/bench.db", options))
    if options.store != "sqlite":
        with _postgres() as address:
            print("PostgreSQL, with fsync")
            asyncio.run(_measure(address, options))
        # The same fleet for each number of replicas, in which all of them find somebody free.
        slots = options.slots * max(options.replicas, default=0)
        for replicas in options.replicas:
            with _postgres() as address:
                print(asyncio.run(together(address, replicas, options.tasks, slots)))


if __name__ == "__main__":
    main(sys.argv[1:])
