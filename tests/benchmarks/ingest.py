"""Single reports per second that Ops-Core takes, on disk before each answer.

Measured beside a Starlette route that only parses the same body with pydantic and stores nothing.
Both run in processes of their own and are loaded from a third one, in turns, over 32 connections
that are kept alive and wait for each answer.
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

from opscore_middleware.core.models import StateReport
from tests.support.processes import running_opscore
from tests.support.waiting import wait_until

__all__ = ["main", "measure"]

CONNECTIONS = 32
SECONDS = 4.0
WARM_UP = 0.5
ROUNDS = 3
KEY = "benchmark-key"
REPORT = TypeAdapter(StateReport)


@dataclass(frozen=True)
class Load:
    """What one round showed: answers per second, and how long they took, in milliseconds."""

    per_second: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Comparison:
    """The middle round of each side."""

    opscore: Load
    parsing_only: Load

    @property
    def ratio(self) -> float:
        """How much of the bare route's rate is left once every report is on disk."""
        return self.opscore.per_second / self.parsing_only.per_second


def main() -> None:
    """Measure and print."""
    result = measure()
    print(f"single reports, {CONNECTIONS} connections kept alive, median of {ROUNDS} rounds")
    for name, load in (("Ops-Core", result.opscore), ("only parsing", result.parsing_only)):
        print(f"  {name:<13}{load.per_second:>8,.0f}/s", end="")
        print(f"   p50 {load.p50:.1f} ms   p99 {load.p99:.1f} ms")
    print(f"  ratio        {result.ratio:>8.2f}")


def measure(rounds: int = ROUNDS, seconds: float = SECONDS) -> Comparison:
    """Load both servers in turns."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_opscore(Path(directory), key=KEY) as opscore,
        _running_parser() as parser,
    ):
        http = httpx.Client(base_url=opscore.url, headers=opscore.headers())
        agents = [
            http.post("/v1/opscore/agents", json={"agentName": f"agent-{n:02}"}).json()["agentId"]
            for n in range(CONNECTIONS)
        ]
        http.close()
        ours, theirs = [], []
        for number in range(rounds):
            theirs.append(_load(parser, agents, number, seconds))
            ours.append(_load(opscore.url, agents, number, seconds))
    return Comparison(_middle(ours), _middle(theirs))


def _middle(loads: list[Load]) -> Load:
    return sorted(loads, key=lambda load: load.per_second)[len(loads) // 2]


def _load(url: str, agents: list[str], number: int, seconds: float) -> Load:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_generate, (url, agents, number, seconds))


# --- the process that asks -----------------------------------------------------------------------


class _Agent(asyncio.Protocol):
    """One connection of one agent, which reports again as soon as it is answered."""

    def __init__(self, agent_id: str, number: int) -> None:
        self.latencies: list[float] = []
        self._answer = 0
        self._sent = 0.0
        body = {
            "agentId": agent_id,
            "timestamp": "2026-09-21T14:13:20.123456Z",
            "state": "active",
            "details": {"opscore_task_id": "9d3b2c1e-summarize.1", "note": "summarizing"},
            "instanceId": f"{number:04}-5d5c1f0e-0a49-4b0c-9d1b-6f2f1f6d7f10",
            "sequence": 1_000_000_000,
        }
        encoded = json.dumps(body).encode()
        head = (
            f"POST /v1/opscore/agent/{agent_id}/state HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
            f"Accept: */*\r\nUser-Agent: benchmark\r\nContent-Length: {len(encoded)}\r\n\r\n"
        )
        self._before, self._after = (head.encode() + encoded).split(b"1000000000")
        self._sequence = 1_000_000_000

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of it with every loop, but one in all it does.
        self._transport = cast("asyncio.Transport", transport)
        self._report()

    def data_received(self, data: bytes) -> None:
        if self._answer == 0:
            assert data.startswith(b"HTTP/1.1 202 "), data
        self._answer += len(data)
        if data.endswith(b"}"):
            self._answer = 0
            self.latencies.append(time.perf_counter() - self._sent)
            self._report()

    def _report(self) -> None:
        self._sequence += 1
        self._sent = time.perf_counter()
        self._transport.write(b"%s%d%s" % (self._before, self._sequence, self._after))


def _generate(url: str, agents: list[str], number: int, seconds: float) -> Load:
    return uvloop.run(_ask(url, agents, number, seconds))


async def _ask(url: str, agents: list[str], number: int, seconds: float) -> Load:
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    connections = [
        await loop.create_connection(
            lambda agent_id=agent_id: _Agent(agent_id, number),  # type: ignore[misc]
            address.hostname,
            address.port,
        )
        for agent_id in agents
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
    return Load(len(latencies) / took, cuts[49], cuts[98])


# --- what it is compared with --------------------------------------------------------------------


async def _parse_only(request: Request) -> JSONResponse:
    REPORT.validate_json(await request.body())
    return JSONResponse({"status": "success", "message": "State update accepted"}, 202)


def _serve_parser(port: int) -> None:
    app = Starlette(
        routes=[Route("/v1/opscore/agent/{agentId}/state", _parse_only, methods=["POST"])]
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
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, str(port)])
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
    if len(sys.argv) > 1:
        _serve_parser(int(sys.argv[1]))
    else:
        main()
