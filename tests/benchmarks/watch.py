"""Events told to those who watch: how many a second, and how soon everybody has one.

Measured beside sse-starlette, whose app keeps a queue for each reader and stores nothing; ours has
each event on disk before it is told. Both run in processes of their own and are read from a third
one, in turns. Besides: how many single reports a second are taken while somebody watches.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import uvicorn
import uvloop
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.benchmarks import ingest
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import wait_until

__all__ = ["main", "measure_ingest", "measure_latency", "measure_throughput"]

READERS = 200
MANY_READERS = 1000
OUR_EVENTS = 10_000
THEIR_EVENTS = 1_000
BATCH = 500
SAMPLES = 20
ROUNDS = 3
KEY = "benchmark-key"
MARK = b"event: transition"
PATIENCE = 120.0


@dataclass(frozen=True)
class Throughput:
    """Deliveries a second, the middle round of each side."""

    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """How many times theirs ours is."""
        return self.ours / self.theirs


@dataclass(frozen=True)
class Latency:
    """How long after it was sent a report had reached all readers, in seconds."""

    p50: float
    longest: float


def main() -> None:
    """Measure and print."""
    told = measure_throughput()
    print(f"deliveries to {READERS} readers, median of {ROUNDS} rounds")
    print(f"  Ops-Core      {told.ours:>10,.0f}/s   each on disk before it is told")
    print(f"  sse-starlette {told.theirs:>10,.0f}/s")
    print(f"  ratio         {told.ratio:>10.1f}")
    soon = measure_latency()
    print(f"a report until all of {MANY_READERS} readers have it, {SAMPLES} samples")
    print(f"  p50 {soon.p50 * 1000:.0f} ms   longest {soon.longest * 1000:.0f} ms")
    print(f"single reports taken while so many watch, median of {ROUNDS} rounds")
    for watchers, per_second in measure_ingest().items():
        print(f"  {watchers:>3} {per_second:>10,.0f}/s")


def measure_throughput(rounds: int = ROUNDS) -> Throughput:
    """Let both sides tell as fast as they can."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_opscore(Path(directory), key=KEY) as opscore,
        _running_other() as other,
    ):
        agent_id = _register(opscore)
        ours, theirs = [], []
        for number in range(rounds):
            theirs.append(_elsewhere(_flood, other, "", THEIR_EVENTS, number))
            ours.append(_elsewhere(_flood, opscore.url, agent_id, OUR_EVENTS, number))
    return Throughput(statistics.median(ours), statistics.median(theirs))


def measure_latency(readers: int = MANY_READERS, samples: int = SAMPLES) -> Latency:
    """Report now and then, with many readers looking on."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_opscore(Path(directory), key=KEY) as opscore,
    ):
        times = _elsewhere(_sample, opscore.url, _register(opscore), readers, samples)
    return Latency(statistics.median(times), max(times))


def measure_ingest(rounds: int = ROUNDS, seconds: float = 4.0) -> dict[int, float]:
    """Load the server with single reports while nobody, one and twenty watch."""
    rates: dict[int, list[float]] = {0: [], 1: [], 20: []}
    with (
        tempfile.TemporaryDirectory() as directory,
        ingest._opscore(Path(directory) / "opscore") as url,
    ):
        rounds_of = [watchers for _ in range(rounds) for watchers in rates]
        for number, watchers in enumerate(rounds_of):
            with _looking_on(url, watchers):
                rates[watchers].append(ingest._load(url, 1, number, seconds).per_second)
    return {watchers: statistics.median(found) for watchers, found in rates.items()}


@contextmanager
def _looking_on(url: str, watchers: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    reader = context.Process(target=_look_on, args=(url, watchers, ready, done))
    reader.start()
    ready.wait(PATIENCE)
    try:
        yield
    finally:
        done.set()
        reader.join()


def _look_on(url: str, watchers: int, ready: Any, done: Any) -> None:
    async def read() -> None:
        opened = await _open(url, watchers)
        ready.set()
        await asyncio.to_thread(done.wait)
        for reader in opened:
            reader.transport.abort()

    uvloop.run(read())


def _register(opscore: OpsCoreProcess) -> str:
    body = {"agentName": "summariser"}
    answer = httpx.post(f"{opscore.url}/v1/opscore/agents", json=body, headers=opscore.headers())
    return str(answer.json()["agentId"])


def _elsewhere(function: Any, *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_in_loop, (function, arguments))


def _in_loop(function: Any, arguments: tuple[Any, ...]) -> Any:
    return uvloop.run(function(*arguments))


# --- the process that reads ----------------------------------------------------------------------


class _Reader(asyncio.Protocol):
    """Counts the events of one stream."""

    def __init__(self) -> None:
        self.count = 0
        self.opened = asyncio.get_running_loop().create_future()
        self._goal = 0
        self._reached: asyncio.Future[float] | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(
            b"GET /v1/opscore/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            b"Authorization: Bearer %s\r\n\r\n" % KEY.encode()
        )

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            assert data.startswith(b"HTTP/1.1 200 "), data
            self.opened.set_result(None)
        data = self._tail + data
        self.count += data.count(MARK)
        self._tail = data[-len(MARK) + 1 :]
        if self._reached is not None and self.count >= self._goal and not self._reached.done():
            self._reached.set_result(time.perf_counter())

    def reaches(self, goal: int) -> asyncio.Future[float]:
        """Return when so many events will have come."""
        self._goal = goal
        self._reached = asyncio.get_running_loop().create_future()
        return self._reached


async def _open(url: str, readers: int) -> list[_Reader]:
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(readers):
        _, reader = await loop.create_connection(_Reader, address.hostname, address.port)
        await reader.opened
        opened.append(reader)
    return opened


async def _flood(url: str, agent_id: str, events: int, number: int) -> float:
    readers = await _open(url, READERS)
    async with _client(url) as http:
        began = time.perf_counter()
        reached = [reader.reaches(events) for reader in readers]
        for start in range(0, events, BATCH):
            size = min(BATCH, events - start)
            reports = [_report(agent_id, number, start + position) for position in range(size)]
            body = json.dumps({"reports": reports})
            answer = await http.post(f"/v1/opscore/agent/{agent_id or 'any'}/states", content=body)
            assert answer.status_code == 202, answer.text
        took = max(await asyncio.wait_for(asyncio.gather(*reached), PATIENCE)) - began
    assert {reader.count for reader in readers} == {events}
    for reader in readers:
        reader.transport.abort()
    return events * READERS / took


async def _sample(url: str, agent_id: str, readers: int, samples: int) -> list[float]:
    opened = await _open(url, readers)
    times = []
    async with _client(url) as http:
        for number in range(samples):
            reached = [reader.reaches(number + 1) for reader in opened]
            report = _report(agent_id, 0, number)
            began = time.perf_counter()
            answer = await http.post(f"/v1/opscore/agent/{agent_id}/state", json=report)
            assert answer.status_code == 202, answer.text
            ends = await asyncio.wait_for(asyncio.gather(*reached), PATIENCE)
            times.append(max(ends) - began)
    for reader in opened:
        reader.transport.abort()
    return times


def _client(url: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE)


def _report(agent_id: str, number: int, position: int) -> dict[str, Any]:
    return {
        "agentId": agent_id,
        "timestamp": "2026-09-21T14:13:20.123456Z",
        "state": ("active", "idle")[position % 2],
        "details": {"opscore_task_id": "9d3b2c1e-summarize.1"},
        "instanceId": f"{number:04}-5d5c1f0e-0a49-4b0c-9d1b-6f2f1f6d7f10",
        "sequence": position + 1,
    }


# --- what it is compared with --------------------------------------------------------------------


def _other_app() -> Starlette:
    queues: set[asyncio.Queue[ServerSentEvent]] = set()
    told = 0

    async def watch(request: Request) -> Response:
        async def events() -> Any:
            queue: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
            queues.add(queue)
            try:
                while True:
                    yield await queue.get()
            finally:
                queues.discard(queue)

        return EventSourceResponse(events())

    async def take(request: Request) -> Response:
        nonlocal told
        for report in (await request.json())["reports"]:
            told += 1
            data = json.dumps({"eventId": told, "agentName": "summariser", **report})
            for queue in queues:
                queue.put_nowait(ServerSentEvent(data, event="transition", id=str(told)))
        return Response(status_code=202)

    return Starlette(
        routes=[
            Route("/v1/opscore/events", watch),
            Route("/v1/opscore/agent/{agentId}/states", take, methods=["POST"]),
        ]
    )


def _serve_other(port: int) -> None:
    uvicorn.run(
        _other_app(),
        port=port,
        ws="none",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="error",
    )


@contextmanager
def _running_other() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, str(port)])
    try:
        wait_until(lambda: _answers(port), message="the other server to listen")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _serve_other(int(sys.argv[1]))
    else:
        main()
