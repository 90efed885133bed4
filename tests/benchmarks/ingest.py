"""Reports per second that Ops-Core takes, on disk before each answer: singly, and in batches.

Measured on SQLite and on PostgreSQL, beside a Starlette route that only parses the same bodies with
pydantic and stores nothing. All run in processes of their own and are loaded from another one, in
turns, over 32 connections that are kept alive and wait for each answer; once more at half of what
each then took in a second, where the wait for an answer counts from when the report was due.

PostgreSQL is a server of the benchmark's own, as the tests use it; `--database` names another, on
which the benchmark makes a database of its own and drops it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httpx
import uvicorn
import uvloop
from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from opscore_middleware.core.models import Batch, StateReport
from tests.support.postgres import database_of_its_own, running_postgres
from tests.support.processes import running_opscore
from tests.support.waiting import wait_until

__all__ = ["main", "measure"]

CONNECTIONS = 32
SECONDS = 4.0
WARM_UP = 0.5
ROUNDS = 3
BATCH = 100
FIRST = 1_000_000_000
KEY = "benchmark-key"
REPORT, REPORTS = TypeAdapter(StateReport), TypeAdapter(Batch)
PARSER = "only parsing"


@dataclass(frozen=True)
class Load:
    """What one round showed: reports per second, and how long answers took, in milliseconds."""

    per_second: float
    p50: float
    p99: float
    p99_at_half: float = 0.0
    """In a round with half as many reports a second."""


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="ingest")
    parser.add_argument("--database", help="a PostgreSQL server to measure on")
    database = parser.parse_args(arguments).database
    print(f"{CONNECTIONS} connections kept alive, median of {ROUNDS} rounds")
    for size, title in ((1, "single reports"), (BATCH, f"batches of {BATCH}")):
        print(f"  {title}")
        loads = measure(size, database=database)
        for name, load in loads.items():
            print(f"    {name:<13}{load.per_second:>8,.0f}/s", end="")
            print(f"   p50 {load.p50:6.1f} ms   p99 {load.p99:6.1f} ms", end="")
            print(f"   at half of that p99 {load.p99_at_half:6.1f} ms", end="")
            print(f"   ratio {load.per_second / loads[PARSER].per_second:.2f}")


def measure(
    size: int, *, database: str | None = None, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, Load]:
    """Load all servers in turns with batches of `size`; return the middle round of each."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = database or stack.enter_context(running_postgres()).url
        urls = {
            PARSER: stack.enter_context(_running_parser()),
            "SQLite": stack.enter_context(_opscore(directory / "sqlite")),
            "PostgreSQL": stack.enter_context(
                _opscore(directory / "postgresql", stack.enter_context(database_of_its_own(server)))
            ),
        }
        loads: dict[str, list[Load]] = {name: [] for name in urls}
        for number in range(rounds):
            for name, url in urls.items():
                loads[name].append(_load(url, size, number, seconds))
        found = {}
        for name, url in urls.items():
            top = _middle(loads[name])
            pause = 2 * CONNECTIONS * size / top.per_second
            half = _load(url, size, rounds, seconds, pause)
            found[name] = replace(top, p99_at_half=half.p99)
    return found


@contextmanager
def _opscore(directory: Path, database_url: str | None = None) -> Iterator[str]:
    """Run Ops-Core with an agent for each connection."""
    directory.mkdir()
    with (
        running_opscore(directory, key=KEY, database_url=database_url) as opscore,
        httpx.Client(base_url=opscore.url, headers=opscore.headers()) as http,
    ):
        for number in range(CONNECTIONS):
            body = {"agentId": _agent(number), "agentName": _agent(number)}
            assert http.post("/v1/opscore/agents", json=body).status_code == 201
        yield opscore.url


def _agent(number: int) -> str:
    return f"5d5c1f0e-0a49-4b0c-9d1b-6f2f1f6d7f{number:02}"


def _middle(loads: list[Load]) -> Load:
    return sorted(loads, key=lambda load: load.per_second)[len(loads) // 2]


def _load(url: str, size: int, number: int, seconds: float, pause: float = 0.0) -> Load:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_generate, (url, size, number, seconds, pause))


# --- the process that asks -----------------------------------------------------------------------


class _Agent(asyncio.Protocol):
    """One connection of one agent, which reports again as soon as it is answered, or `pause`
    seconds after the last report was due, whichever is later."""

    def __init__(self, agent_id: str, size: int, number: int, pause: float) -> None:
        self.latencies: list[float] = []
        self._loop = asyncio.get_running_loop()
        self._answer = 0
        self._due = self._loop.time() + random.uniform(0, pause)
        self._pause = pause
        self._size = size
        report = {
            "agentId": agent_id,
            "timestamp": "2026-09-21T14:13:20.123456Z",
            "state": "active",
            "details": {"opscore_task_id": "9d3b2c1e-summarize.1", "note": "summarizing"},
            "instanceId": f"{number:04}-5d5c1f0e-0a49-4b0c-9d1b-6f2f1f6d7f10",
            "sequence": FIRST,
        }
        body = json.dumps(report if size == 1 else {"reports": [report] * size}).encode()
        head = (
            f"POST /v1/opscore/agent/{agent_id}/state{'' if size == 1 else 's'} HTTP/1.1\r\n"
            f"Host: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nAccept: */*\r\nUser-Agent: benchmark\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._request = (head.encode() + body).replace(b"%d" % FIRST, b"%d")
        self._sequence = FIRST

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of it with every loop, but one in all it does.
        self._transport = cast("asyncio.Transport", transport)
        self._loop.call_at(self._due, self._report)

    def data_received(self, data: bytes) -> None:
        if self._answer == 0:
            assert data.startswith(b"HTTP/1.1 202 "), data
        self._answer += len(data)
        if data.endswith(b"}"):
            self._answer = 0
            now = self._loop.time()
            self.latencies.append(now - self._due)
            if self._pause:
                self._due += self._pause
                self._loop.call_at(self._due, self._report)
            else:
                self._due = now
                self._report()

    def _report(self) -> None:
        if self._transport.is_closing():
            return
        last = self._sequence + self._size
        sequences = tuple(range(self._sequence, last))
        self._sequence = last
        self._transport.write(self._request % sequences)


def _generate(url: str, size: int, number: int, seconds: float, pause: float) -> Load:
    return uvloop.run(_ask(url, size, number, seconds, pause))


async def _ask(url: str, size: int, number: int, seconds: float, pause: float) -> Load:
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    connections = [
        await loop.create_connection(
            lambda agent=agent: _Agent(_agent(agent), size, number, pause),  # type: ignore[misc]
            address.hostname,
            address.port,
        )
        for agent in range(CONNECTIONS)
    ]
    reporters = [reporter for _, reporter in connections]
    await asyncio.sleep(WARM_UP)
    for reporter in reporters:
        reporter.latencies.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    latencies = [latency * 1000 for reporter in reporters for latency in reporter.latencies]
    for transport, _ in connections:
        transport.abort()
    cuts = statistics.quantiles(latencies, n=100)
    return Load(size * len(latencies) / took, cuts[49], cuts[98])


# --- what it is compared with --------------------------------------------------------------------


async def _parse_only(request: Request) -> JSONResponse:
    REPORT.validate_json(await request.body())
    return JSONResponse({"status": "success", "message": "State update accepted"}, 202)


async def _parse_batch_only(request: Request) -> JSONResponse:
    reports = REPORTS.validate_json(await request.body()).reports
    return JSONResponse({"accepted": len(reports), "duplicates": 0}, 202)


def _serve_parser(port: int) -> None:
    app = Starlette(
        routes=[
            Route("/v1/opscore/agent/{agentId}/state", _parse_only, methods=["POST"]),
            Route("/v1/opscore/agent/{agentId}/states", _parse_batch_only, methods=["POST"]),
        ]
    )
    uvicorn.run(
        app,
        port=port,
        ws="none",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="error",
    )


@contextmanager
def _running_parser() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, "parser", str(port)])
    try:
        wait_until(lambda: _answers(port), message="the parsing route to listen")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["parser"]:
        _serve_parser(int(sys.argv[2]))
    else:
        main(sys.argv[1:])
