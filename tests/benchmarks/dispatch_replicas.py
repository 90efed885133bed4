"""Several replicas that drain one queue of one database together, each a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import asyncpg

from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.stores import open_store
from tests.benchmarks.dispatch_fleet import (
    ONE_TASK,
    Fleet,
    collect_as_served,
    engine_on,
    enqueue,
    post_each,
)

__all__ = ["together"]

_OTHERS = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
_PATIENCE = 0.002
_PER_SECOND = os.sysconf("SC_CLK_TCK")


class _Share(NamedTuple):
    """What one replica did, and when it began and ended; times are in seconds."""

    tasks: int
    began: float
    ended: float
    processor: float


async def together(address: str, replicas: int, tasks: int, slots: int) -> str:
    """Have replicas complete as many tasks, told by results that are posted; return a line that
    tells how many a second, and what each took of the processors."""
    store = open_store(address)
    await store.open()
    try:
        engine = engine_on(store)
        await Fleet(store, slots).register()
        await engine.save_workflow(ONE_TASK)
        await enqueue(engine, tasks)
        shares, server = await asyncio.to_thread(_drained, address, replicas, slots)
    finally:
        await store.close()
    if sum(share.tasks for share in shares) != tasks:
        raise RuntimeError(f"not all of {tasks} tasks were completed once: {shares}")
    took = max(share.ended for share in shares) - min(share.began for share in shares)
    each = sum(share.processor for share in shares) / tasks
    return (
        f"  {replicas} replicas together, results posted: {tasks / took:8,.0f} tasks/s"
        f" ({', '.join(f'{share.tasks:,}' for share in shares)}); microseconds of processor time"
        f" a task: {each * 1e6:.0f} of replicas, {server / tasks * 1e6:.0f} of the server"
    )


def _drained(address: str, replicas: int, slots: int) -> tuple[list[_Share], float]:
    """Return what each replica did, and the processor time that the server took for it."""
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe() for _ in range(replicas)]
    processes = [
        context.Process(target=_replica, args=(address, slots // 4, theirs), daemon=True)
        for _, theirs in ends
    ]
    for process in processes:
        process.start()
    ours = [end for end, _ in ends]
    _awaited(ours)
    before = _server_time(address)
    for end in ours:
        end.send("go")
    shares = _awaited(ours)
    server = _server_time(address) - before
    for end in ours:
        end.send("close")
    for process in processes:
        process.join()
    return shares, server


def _awaited(ends: Iterable[Connection]) -> list[_Share]:
    return [end.recv() for end in ends]


def _replica(address: str, most: int, parent: Connection) -> None:
    collect_as_served()
    asyncio.run(_take_part(address, most, parent))


async def _take_part(address: str, most: int, parent: Connection) -> None:
    store = open_store(address)
    await store.open()
    try:
        engine = engine_on(store)
        await asyncio.gather(*(store.unfinished() for _ in range(4)))
        parent.send("ready")
        parent.recv()
        began, used = time.perf_counter(), time.process_time()
        done = await _drain(engine, most)
        ended = time.perf_counter()
        parent.send(_Share(done, began, ended, time.process_time() - used))
        parent.recv()
    finally:
        await store.close()


async def _drain(engine: Engine, most: int) -> int:
    """Complete what there is to be claimed, with others on their way; return how many."""
    posted: set[asyncio.Task[None]] = set()
    done = 0
    while True:
        claims = await engine.claim(most)
        done += len(claims)
        if claims:
            posted.add(asyncio.create_task(post_each(engine, claims)))
        elif posted:
            over, posted = await asyncio.wait(posted, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*over)
        elif await engine.store.unfinished():
            await asyncio.sleep(_PATIENCE)  # the others have all slots for the moment
        else:
            return done


def _server_time(address: str) -> float:
    """Return the processor time of the server's processes, in seconds."""
    stats = [Path(f"/proc/{process_id}/stat").read_text() for process_id in _server(address)]
    ticks = (sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats)
    return sum(ticks) / _PER_SECOND


def _server(address: str) -> list[int]:
    """Return the ids of the processes that serve connections, and of those that write."""

    async def read() -> list[int]:
        connection = await asyncpg.connect(address)
        try:
            rows = await connection.fetch(_OTHERS)
        finally:
            await connection.close()
        return [row["pid"] for row in rows]

    return asyncio.run(read())
