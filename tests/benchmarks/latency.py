"""How soon Ops-Core knows: from a transition until the answer arrives that says it is stored.

Ops-Core is a process of its own, with a file. Beside it a bare POST of the same report, as often,
by a client that waits for the answer, which is about the least it can take.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import httpx

from opscore_middleware import OpsCoreMiddleware
from opscore_middleware.agent import link, wire
from opscore_middleware.agent.delivery import Answer
from opscore_middleware.agent.wire import Wire
from opscore_middleware.protocol.call import Call
from tests.benchmarks.load import bare
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import wait_until

TRANSITIONS = 400
PAUSE = 0.05
"""Seconds between requests: an agent's usual life, not a rush that is gathered into batches."""


class Arriving(wire._Incoming):
    """Notes when an answer begins to arrive: reading it takes the agent a moment more."""

    at: ClassVar[float | None] = None

    def readinto(self, buffer: Any) -> int:
        read = super().readinto(buffer)
        if Arriving.at is None:
            Arriving.at = time.time()
        return read


class Timing(Wire):
    """Notes how old each report is when Ops-Core says that it is stored."""

    took: ClassVar[list[float]] = []

    def send(self, call: Call[Any]) -> Answer:
        Arriving.at = None
        answer = super().send(call)
        if call.path.endswith("/states") and answer.status == 202 and Arriving.at is not None:
            for report in json.loads(call.body or b"")["reports"]:
                told = datetime.fromisoformat(report["timestamp"])
                self.took.append((Arriving.at - told.timestamp()) * 1000)
        return answer


async def work(agent: Any) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/job", "headers": [], "query_string": b""}
    for _ in range(TRANSITIONS // 2):
        await agent(dict(scope), receive, send)
        await asyncio.sleep(PAUSE)


def ours(opscore: OpsCoreProcess) -> list[float]:
    took = Timing.took
    with patch.object(link, "Wire", Timing), patch.object(wire, "_Incoming", Arriving):
        agent = OpsCoreMiddleware(
            bare(), agent_name="bench", api_url=opscore.url, api_key=opscore.api_key
        )
        asyncio.run(work(agent))
        wait_until(lambda: len(took) >= TRANSITIONS, timeout=60)
    return took[2:]  # the first ones wait for the registration


def alone(opscore: OpsCoreProcess) -> list[float]:
    took = []
    headers = {"Authorization": f"Bearer {opscore.api_key}"}
    with httpx.Client(base_url=opscore.url, headers=headers) as client:
        made = client.post("/v1/opscore/agents", json={"agentName": "alone"})
        agent_id = made.raise_for_status().json()["agentId"]
        for _ in range(TRANSITIONS // 2):
            time.sleep(PAUSE)
            stamp = datetime.now(UTC).isoformat()
            body = {"agentId": agent_id, "timestamp": stamp, "state": "idle", "details": {}}
            start = time.perf_counter()
            client.post(f"/v1/opscore/agent/{agent_id}/state", json=body).raise_for_status()
            took.append((time.perf_counter() - start) * 1000)
    return took


def show(name: str, took: list[float]) -> None:
    cuts = statistics.quantiles(took, n=100)
    print(f"  {name:42} p50 {cuts[49]:6.2f}   p99 {cuts[98]:6.2f}   of {len(took)}")


def main() -> None:
    print("milliseconds from a transition to its being stored")
    with (
        tempfile.TemporaryDirectory() as directory,
        running_opscore(Path(directory), key="benchmark-key") as opscore,
    ):
        show("opscore middleware", ours(opscore))
        show("a client that posts and waits", alone(opscore))


if __name__ == "__main__":
    main()
