"""Ops-Core restarted under a fleet: what comes in meanwhile, and who is taken for lost.

All agents are simulated in one process: each sends a heartbeat every interval, tells of its work
now and then, and tries again what failed, at the times at which the middleware does. Ops-Core is
killed, stays away for a while, and is started again. Watched until all were heard again, and for a
while longer: how many requests a second it answers, whom it calls lost, and how long who was silent
stays so.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop

from opscore_middleware.agent.delivery import backoff
from tests.benchmarks.raw import Connection, connect, request_bytes
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import wait_until_async

__all__ = ["Course", "main", "measure"]

AGENTS = 10_000
INTERVAL = 10.0
AWAY = 10.0
WORK_EVERY = 60.0
WORK_TAKES = 2.0
PATIENCE = 10.0  # for one answer, as the middleware has it
KEY = "benchmark-key"


@dataclass
class Course:
    """What was seen. Times are seconds of the monotonic clock, rates requests a second."""

    interval: float
    came: Counter[int] = field(default_factory=Counter)
    """How many requests Ops-Core answered in each second."""
    heard: dict[int, float] = field(default_factory=dict)
    """When each agent was answered last."""
    heard_again: dict[int, float] = field(default_factory=dict)
    """When each agent was answered first after Ops-Core was back."""
    down_at: float = 0.0
    up_at: float = 0.0
    over_at: float = 0.0
    lost: int = 0
    """The most that were lost at once."""
    stalled: float = 0.0
    """The longest time for which the simulation itself stood still, in seconds."""

    @property
    def steady(self) -> float:
        """The rate before it went away, but for the first interval, in which all began."""
        return self._mean(self.down_at - 2 * self.interval, self.down_at)

    @property
    def highest(self) -> float:
        """The highest rate of any whole second after it was back."""
        return max(self._seconds(self.up_at, self.over_at))

    @property
    def silent(self) -> float:
        """How long after it was back the last agent was heard of again."""
        return max(self.heard_again.values()) - self.up_at

    def note(self, number: int) -> None:
        """Note that an agent was answered."""
        now = time.monotonic()
        self.came[int(now)] += 1
        self.heard[number] = now
        if self.up_at:
            self.heard_again.setdefault(number, now)

    def _seconds(self, begins: float, ends: float) -> list[int]:
        return [self.came[second] for second in range(int(begins) + 1, int(ends))]

    def _mean(self, begins: float, ends: float) -> float:
        seconds = self._seconds(begins, ends)
        return sum(seconds) / len(seconds)


class Agent:
    """One simulated instance: a thread's worth of decisions on a loop that all of them share."""

    def __init__(self, number: int, agent_id: str, url: str, course: Course) -> None:
        self._number = number
        self._url = url
        self._course = course
        self._path = f"/v1/opscore/agent/{agent_id}"
        self._agent_id = agent_id
        self._connection: Connection | None = None
        self._waiting: list[dict[str, object]] = []
        self._sequence = 0
        self._failures = 0
        now = time.monotonic()
        self._beat_at = now + random.uniform(0, course.interval)
        self._work_at = now + random.uniform(0, WORK_EVERY)
        self._try_at = 0.0

    async def live(self) -> None:
        """Do what is due, for ever."""
        while True:
            now = time.monotonic()
            if now >= self._work_at:
                self._work()
            if self._waiting:
                if now >= self._try_at:
                    await self._report()
            elif now >= self._beat_at:
                await self._beat()
            due = self._try_at if self._waiting else self._beat_at
            await asyncio.sleep(max(0.0, min(due, self._work_at) - time.monotonic()))

    def _work(self) -> None:
        """Begin work, or end it."""
        self._sequence += 1
        begins = self._sequence % 2
        self._waiting.append(
            {
                "agentId": self._agent_id,
                "timestamp": "2026-09-21T14:13:20Z",
                "state": "active" if begins else "idle",
                "details": {},
                "instanceId": "i",
                "sequence": self._sequence,
            }
        )
        wait = WORK_TAKES if begins else WORK_EVERY - WORK_TAKES
        self._work_at = time.monotonic() + random.uniform(0.5, 1.5) * wait

    async def _report(self) -> None:
        sent = list(self._waiting)
        if await self._answered("states", {"reports": sent}, 202):
            del self._waiting[: len(sent)]
            self._failures = 0
            self._try_at = 0.0
        else:
            self._failures += 1
            self._try_at = time.monotonic() + backoff(self._failures)

    async def _beat(self) -> None:
        # One that fails is not tried again: the next comes in its own time.
        interval = self._course.interval
        self._beat_at = time.monotonic() + interval * random.uniform(0.8, 1.0)
        body = {
            "instanceId": "i",
            "startedAt": "2026-09-21T14:13:20Z",
            "state": "idle",
            "sequence": self._sequence,
            "intervalSeconds": interval,
        }
        await self._answered("heartbeat", body, 200)

    async def _answered(self, noun: str, body: object, status: int) -> bool:
        request = request_bytes("POST", f"{self._path}/{noun}", key=KEY, body=body)
        try:
            async with asyncio.timeout(PATIENCE):
                if self._connection is None or not self._connection.open:
                    self._connection = await connect(self._url)
                got, said = await self._connection.ask(request)
        except (OSError, TimeoutError):
            if self._connection is not None:
                self._connection.close()
            return False
        if got == status:
            self._course.note(self._number)
        else:
            assert got in {429, 503}, said
        return got == status

    def leave(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, print, and say what is met."""
    parser = argparse.ArgumentParser(prog="restart", description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=AGENTS)
    parser.add_argument("--interval", type=float, default=INTERVAL, help="between heartbeats")
    parser.add_argument("--away", type=float, default=AWAY, help="seconds without Ops-Core")
    given = parser.parse_args(arguments)
    course = measure(given.agents, given.interval, given.away)
    away = course.up_at - course.down_at
    print(f"{given.agents:,} agents, a heartbeat each {given.interval:g} s, away for {away:.1f} s")
    ratio = course.highest / course.steady
    silent = course.silent
    _print("rate before", f"{course.steady:,.0f}/s")
    _print("highest rate after", f"{course.highest:,.0f}/s", f"{ratio:.2f} of it", ratio <= 2)
    _print("lost at most", f"{course.lost:,}", "of all", course.lost == 0)
    unheard = given.agents - len(course.heard_again)
    _print("never heard again", f"{unheard:,}", "of all", unheard == 0)
    _print("last one heard after", f"{silent:.1f} s", "of being back", silent <= given.interval)
    if course.stalled > 0.5:
        print(
            f"  The simulation stood still for {course.stalled:.1f} s: the machine is too busy for"
        )
        print("  this to mean anything.")


def measure(agents: int, interval: float, away: float) -> Course:
    """Restart Ops-Core under a fleet and return what was seen."""
    _allow_files(agents + 1000)
    with (
        tempfile.TemporaryDirectory() as directory,
        running_opscore(Path(directory), key=KEY) as opscore,
    ):
        return uvloop.run(_restarted(opscore, agents, Course(interval), away))


async def _restarted(opscore: OpsCoreProcess, agents: int, course: Course, away: float) -> Course:
    ids = await _register(opscore, agents)
    fleet = [Agent(number, agent_id, opscore.url, course) for number, agent_id in enumerate(ids)]
    living = [asyncio.create_task(agent.live()) for agent in fleet]
    living.append(asyncio.create_task(_watch_for_stalls(course)))
    try:
        await asyncio.sleep(3 * course.interval)
        assert len(course.heard) == agents, "the machine is too slow for that many"
        course.down_at = time.monotonic()
        opscore.kill()
        await asyncio.sleep(away)
        await asyncio.to_thread(opscore.start)
        course.up_at = time.monotonic()
        watching = asyncio.create_task(_watch_for_lost(opscore, course))
        with suppress(AssertionError):  # who is not heard again is counted
            await wait_until_async(
                lambda: len(course.heard_again) == agents, timeout=4 * course.interval
            )
        await asyncio.sleep(4 * course.interval - (time.monotonic() - course.up_at))
        course.over_at = time.monotonic()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    finally:
        for task in living:
            task.cancel()
        faults = await asyncio.gather(*living, return_exceptions=True)
        for agent in fleet:
            agent.leave()
    broken = [fault for fault in faults if not isinstance(fault, asyncio.CancelledError)]
    assert not broken, broken[0]
    return course


async def _register(opscore: OpsCoreProcess, agents: int) -> list[str]:
    ids = [f"5d5c1f0e-0a49-4b0c-9d1b-{number:012}" for number in range(agents)]
    left = iter(ids)

    async def register() -> None:
        connection = await connect(opscore.url)
        for agent_id in left:
            body = {"agentId": agent_id, "agentName": agent_id}
            request = request_bytes("POST", "/v1/opscore/agents", key=KEY, body=body)
            status, said = await connection.ask(request)
            assert status == 201, said
        connection.close()

    await asyncio.gather(*(register() for _ in range(16)))
    return ids


async def _watch_for_lost(opscore: OpsCoreProcess, course: Course) -> None:
    async with httpx.AsyncClient(base_url=opscore.url, headers=opscore.headers()) as http:
        while True:
            fleet = (await http.get("/v1/opscore/fleet", timeout=PATIENCE)).json()
            course.lost = max(course.lost, fleet["lost"], fleet["liveness"].get("lost", 0))
            await asyncio.sleep(0.5)


async def _watch_for_stalls(course: Course) -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.1)
        course.stalled = max(course.stalled, time.monotonic() - began - 0.1)


def _allow_files(wanted: int) -> None:
    """Raise the limit of open files, for this process and the server that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def _print(what: str, value: str, note: str = "", met: bool | None = None) -> None:
    verdict = {None: "", True: "met", False: "NOT met"}[met]
    print(f"  {what:<22}{value:>12}  {note:<14}{verdict}".rstrip())


if __name__ == "__main__":
    main(sys.argv[1:])
