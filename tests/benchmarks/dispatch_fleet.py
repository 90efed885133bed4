"""What the benchmarks of dispatch share: an engine, and agents that do what they are given."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

from opscore_middleware.core.clock import system_clock
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.models import Registration
from opscore_middleware.core.records import StoredReport
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.records import Claim
from opscore_middleware.core.runs.tasks import attempt_id
from opscore_middleware.core.runs.views import TaskResult, WorkflowStart
from opscore_middleware.core.workflows.validation import parse
from opscore_middleware.notations.expressions import JmesPath
from opscore_middleware.stores import Database

__all__ = [
    "AT_ONCE",
    "ONE_TASK",
    "Fleet",
    "batched",
    "collect_as_served",
    "engine_on",
    "enqueue",
    "post_each",
]

AT_ONCE = 500
ONE_TASK = {
    "id": "bench",
    "name": "Bench",
    "tasks": [{"taskId": "one", "name": "one", "agentCapability": "c"}],
}


class Fleet:
    """Agents that begin what they are given, and complete it, in as many batches as need be."""

    def __init__(self, store: Database, slots: int) -> None:
        self.store = store
        self.agent_ids = [f"agent-{number}" for number in range(slots)]
        self._sequences = {agent_id: count(1) for agent_id in self.agent_ids}

    async def register(self) -> None:
        """Make all known, and idle."""
        for agent_id in self.agent_ids:
            await self.store.register(
                Registration(
                    agent_id=agent_id,
                    agent_name=agent_id,
                    version="1",
                    capabilities=["c"],
                    contact_endpoint="http://127.0.0.1:9/task",
                ),
                new_id=agent_id,
                now=system_clock(),
            )
        await self.report([self._report(agent_id, "idle", None) for agent_id in self.agent_ids])

    async def begin(self, claims: Sequence[Claim]) -> None:
        """Say of each attempt that it is begun."""
        await self.report([self._about(claim, "active") for claim in claims])

    async def complete(self, claims: Sequence[Claim]) -> None:
        """Say of each attempt that it is done."""
        done = {"opscore_task_state": "completed", "opscore_task_result": {"ok": True}}
        await self.report([self._about(claim, "idle", **done) for claim in claims])

    async def report(self, reports: Sequence[StoredReport]) -> None:
        """Write reports as concurrent callers would have them written."""
        await asyncio.gather(
            *(self.store.apply_reports(some) for some in batched(reports, AT_ONCE))
        )

    def _about(self, claim: Claim, state: str, **details: Any) -> StoredReport:
        said = {"opscore_task_id": attempt_id(claim.task), **details}
        return self._report(claim.endpoint.agent_id, state, json.dumps(said))

    def _report(self, agent_id: str, state: str, details: str | None) -> StoredReport:
        now = system_clock()
        return StoredReport(
            agent_id=agent_id,
            instance_id=f"{agent_id}-1",
            sequence=next(self._sequences[agent_id]),
            state=state,
            details=details,
            timestamp=now,
            effective_at=now,
            received_at=now,
            started_at=None,
            coalesced=0,
            errors=0,
        )


def collect_as_served() -> None:
    """Have garbage be collected as `opscore serve` has it, which the engine runs in."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def engine_on(store: Database) -> Engine:
    """Return an engine as a server has it, which has listened from now on."""
    since = system_clock()
    expressions = JmesPath()
    return Engine(
        store,
        clock=system_clock,
        mark=lambda: Watermark(since, system_clock()),
        parse=partial(parse, expressions=expressions),
        expressions=expressions,
    )


async def enqueue(engine: Engine, tasks: int) -> None:
    """Start workflows of one task."""
    start = WorkflowStart(workflow_definition_id="bench")
    for some in batched(range(tasks), AT_ONCE):
        await asyncio.gather(*(engine.start("agent-0", start) for _ in some))


async def post_each(engine: Engine, claims: Sequence[Claim]) -> None:
    """Post a result for each claim."""
    result = TaskResult(result={"ok": True})
    await asyncio.gather(*(engine.finish(attempt_id(claim.task), result) for claim in claims))


def batched(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut values into parts of a size."""
    return (values[at : at + size] for at in range(0, len(values), size))
