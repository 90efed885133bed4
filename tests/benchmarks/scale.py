"""What Ops-Core costs with 100, 10,000 and 100,000 agents and a long history behind them.

For each size a fresh database is filled through the store itself, the events spread over all
agents; then one server is asked, and told, over connections that are kept alive. Printed are the
medians of reading, the reports and heartbeats that it takes in a second from agents picked at
random, and the server's memory after all of that; then how each changes from the smallest fleet to
the largest.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import uvloop
from pydantic_core import from_json

from opscore_middleware.core.clock import SECOND, system_clock
from opscore_middleware.core.models import Registration
from opscore_middleware.core.records import StoredReport
from opscore_middleware.core.store import Store
from opscore_middleware.stores import open_store
from tests.benchmarks.raw import Connection, connect, request_bytes
from tests.support.postgres import database_of_its_own, running_postgres
from tests.support.processes import OpsCoreProcess, running_opscore

__all__ = ["Cost", "main", "measure"]

SIZES = (100, 10_000, 100_000)
EVENTS = 10_000_000
MEMORY_LIMIT = 300.0
CONNECTIONS = 32
SECONDS = 4.0
READS = 300
PAGE = 100
FEW = 20  # of a capability: so many have it in the smallest fleet
CHUNK = 4_000
CAPABILITIES = ("search", "summarise", "translate", "transcribe", "rank")
KEY = "benchmark-key"


@dataclass
class Cost:
    """What one size of fleet showed: milliseconds of reads, requests a second, MiB."""

    agents: int
    filled: float
    reads: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    memory: float = 0.0


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scale", description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, nargs="+", default=SIZES)
    parser.add_argument("--events", type=int, default=EVENTS, help="in each database")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each load")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args(arguments)
    print(f"{given.store}, {given.events:,} events, {CONNECTIONS} connections", flush=True)
    costs = []
    for agents in given.agents:
        with _database(given.store) as (directory, url):
            costs.append(measure(directory, url, agents, given.events, given.seconds))
        _print(costs[-1])
    _print_ratios(costs)


def measure(directory: Path, url: str, agents: int, events: int, seconds: float) -> Cost:
    """Fill a database, and ask and tell the server that serves it."""
    began = time.perf_counter()
    uvloop.run(_fill(url, agents, events))
    cost = Cost(agents, time.perf_counter() - began)
    with running_opscore(directory, key=KEY, database_url=url) as opscore:
        uvloop.run(_load(opscore, cost, seconds))
        cost.memory = _resident(opscore.pid)
    return cost


@contextmanager
def _database(store: str) -> Iterator[tuple[Path, str]]:
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        if store == "sqlite":
            yield directory, f"sqlite:///{directory}/opscore.db"
            return
        with running_postgres() as server, database_of_its_own(server.url) as url:
            yield directory, url


# --- what is there before ------------------------------------------------------------------------


def _agent(number: int) -> str:
    return f"5d5c1f0e-0a49-4b0c-9d1b-{number:012}"


async def _fill(url: str, agents: int, events: int) -> None:
    store = open_store(url)
    await store.open()
    try:
        await _register(store, agents)
        await _tell(store, agents, events)
    finally:
        await store.close()


async def _register(store: Store, agents: int) -> None:
    now = system_clock()
    numbers = iter(range(agents))

    async def register() -> None:
        for number in numbers:
            registration = Registration(
                agent_id=_agent(number),
                agent_name=f"agent-{number:06}",
                version="1.0",
                capabilities=[CAPABILITIES[number % len(CAPABILITIES)]],
            )
            await store.register(registration, new_id="unused", now=now)

    await asyncio.gather(*(register() for _ in range(CONNECTIONS)))


async def _tell(store: Store, agents: int, events: int) -> None:
    """Let all agents report in turns, so that the histories lie across each other."""
    first = system_clock() - events * 100
    for start in range(0, events, CHUNK):
        await store.apply_reports(
            [
                _report(number % agents, number // agents + 1, first + number * 100)
                for number in range(start, min(start + CHUNK, events))
            ]
        )


def _report(agent: int, sequence: int, at: int) -> StoredReport:
    return StoredReport(
        agent_id=_agent(agent),
        instance_id=f"i-{agent}",
        sequence=sequence,
        state="active" if sequence % 2 else "idle",
        details='{"opscore_task_id":"9d3b2c1e-summarize.1","note":"summarizing"}',
        timestamp=at,
        effective_at=at,
        received_at=at,
        started_at=at - SECOND,
        coalesced=0,
        errors=0,
    )


# --- what is asked and told ----------------------------------------------------------------------


class Fleet:
    """Requests of agents that are picked at random."""

    def __init__(self, agents: int, events: int) -> None:
        self._agents = agents
        self._random = random.Random(7)
        self._sequence = events  # above all that were written

    def agent(self) -> int:
        return self._random.randrange(self._agents)

    def report(self, agent: int | None = None) -> bytes:
        agent = self.agent() if agent is None else agent
        self._sequence += 1
        body = {
            "agentId": _agent(agent),
            "timestamp": "2026-09-21T14:13:20.123456Z",
            "state": "active" if self._sequence % 2 else "idle",
            "details": {"opscore_task_id": "9d3b2c1e-summarize.1", "note": "summarizing"},
            "instanceId": f"i-{agent}",
            "sequence": self._sequence,
        }
        return request_bytes("POST", _path(agent, "state"), key=KEY, body=body)

    def heartbeat(self, agent: int | None = None) -> bytes:
        agent = self.agent() if agent is None else agent
        body = {
            "instanceId": f"i-{agent}",
            "startedAt": "2026-09-21T14:13:20Z",
            "state": "idle",
            "sequence": 0,
            "intervalSeconds": 3600,
        }
        return request_bytes("POST", _path(agent, "heartbeat"), key=KEY, body=body)


def _path(agent: int, noun: str) -> str:
    return f"/v1/opscore/agent/{_agent(agent)}/{noun}"


async def _load(opscore: OpsCoreProcess, cost: Cost, seconds: float) -> None:
    fleet = Fleet(cost.agents, 1_000_000_000)
    # Everybody is heard of first, so that whatever is remembered of an agent is.
    numbers = iter(range(cost.agents))
    async with _connected(opscore.url, CONNECTIONS) as connections:
        await asyncio.gather(*(_all_beat(c, fleet, numbers) for c in connections))
    async with _connected(opscore.url, 1) as (connection,):
        cost.reads = await _reads(connection, fleet)
    # Opened anew: the server closes those that were silent for long.
    async with _connected(opscore.url, CONNECTIONS) as connections:
        cost.rates["reports"] = await _rate(connections, fleet.report, seconds)
        cost.rates["heartbeats"] = await _rate(connections, fleet.heartbeat, seconds)


@asynccontextmanager
async def _connected(url: str, count: int) -> AsyncIterator[list[Connection]]:
    connections = [await connect(url) for _ in range(count)]
    yield connections
    for connection in connections:
        connection.close()


async def _all_beat(connection: Connection, fleet: Fleet, numbers: Iterator[int]) -> None:
    for number in numbers:
        await _expect(connection, fleet.heartbeat(number), 200)


async def _rate(
    connections: Sequence[Connection], make: Callable[[], bytes], seconds: float
) -> float:
    """Return how many requests a second are answered."""
    began = time.perf_counter()
    answered = 0

    async def ask(connection: Connection) -> None:
        nonlocal answered
        while time.perf_counter() - began < seconds:
            await _expect(connection, make(), 200, 202)
            answered += 1

    await asyncio.gather(*map(ask, connections))
    return answered / (time.perf_counter() - began)


async def _reads(connection: Connection, fleet: Fleet) -> dict[str, float]:
    """Return the median of each kind of read, in milliseconds."""

    async def read(path: str) -> bytes:
        return await _expect(connection, request_bytes("GET", path, key=KEY), 200)

    agents = "/v1/opscore/agents"
    paths: dict[str, Callable[[], str]] = {
        "state": lambda: _path(fleet.agent(), "state"),
        "agent": lambda: f"{agents}/{_agent(fleet.agent())}",
        f"history, {PAGE}": lambda: f"{agents}/{_agent(fleet.agent())}/history?limit={PAGE}",
        f"first page, {PAGE}": lambda: f"{agents}?limit={PAGE}",
        "by name": lambda: f"{agents}?name=agent-{fleet.agent():06}",
        f"by capability, {FEW}": lambda: f"{agents}?capability=search&limit={FEW}",
        f"by state, {PAGE}": lambda: f"{agents}?state=idle&limit={PAGE}",
        "by a state of nobody": lambda: f"{agents}?state=error&limit={PAGE}",
        "fleet": lambda: "/v1/opscore/fleet",
        "metrics": lambda: "/metrics",
        "ready": lambda: "/ready",
    }
    found = {}
    for name, path in paths.items():
        found[name] = await _median(lambda path=path: read(path()))  # type: ignore[misc]
    found[f"later pages, {PAGE}"] = await _pages(read, agents)
    return found


async def _median(read: Callable[[], Awaitable[bytes]]) -> float:
    """Read for as long as READS take, or three seconds; return the median in milliseconds."""
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < READS and (len(took) < 3 or time.perf_counter() - began < 3):
        start = time.perf_counter()
        await read()
        took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took)


async def _pages(read: Callable[[str], Awaitable[bytes]], path: str) -> float:
    """Walk through all agents; return the median of the last hundred pages."""
    took, cursor = [], ""
    while True:
        query = {"limit": PAGE} | ({"cursor": cursor} if cursor else {})
        start = time.perf_counter()
        page = from_json(await read(f"{path}?{urlencode(query)}"))
        took.append((time.perf_counter() - start) * 1000)
        if not (cursor := page.get("nextCursor") or ""):
            return statistics.median(took[-100:])


async def _expect(connection: Connection, request: bytes, *statuses: int) -> bytes:
    status, body = await connection.ask(request)
    assert status in statuses, (status, body[:300], request[:200])
    return body


# --- what is printed -----------------------------------------------------------------------------


def _resident(process_id: int) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{process_id}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def _print(cost: Cost) -> None:
    print(f"  {cost.agents:,} agents (filled in {cost.filled:,.0f} s)")
    for name, milliseconds in cost.reads.items():
        print(f"    {name:<24}{milliseconds:>10.2f} ms")
    for name, rate in cost.rates.items():
        print(f"    {name:<24}{rate:>10,.0f}/s")
    verdict = "met" if cost.memory <= MEMORY_LIMIT else "NOT met"
    print(f"    {'memory':<24}{cost.memory:>10,.0f} MiB   limit {MEMORY_LIMIT:.0f}: {verdict}")
    sys.stdout.flush()


def _print_ratios(costs: Sequence[Cost]) -> None:
    smallest, largest = costs[0], costs[-1]
    print(f"  {largest.agents:,} agents as against {smallest.agents:,}")
    for name, milliseconds in largest.reads.items():
        print(f"    {name:<24}{milliseconds / smallest.reads[name]:>10.2f} times as long")
    for name, rate in largest.rates.items():
        print(f"    {name:<24}{rate / smallest.rates[name]:>10.2f} times as many")


if __name__ == "__main__":
    main(sys.argv[1:])
