"""An engine on a store in memory, agents in a word or two, and a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.models import Registration, StateReport
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.records import Claim
from opscore_middleware.core.runs.tasks import Route, Task, attempt_id
from opscore_middleware.core.runs.views import WorkflowStart
from opscore_middleware.core.workflows.validation import parse
from opscore_middleware.notations.cron import next_run
from opscore_middleware.notations.expressions import JmesPath
from opscore_middleware.stores import open_store
from tests.support.clock import MovedClock

__all__ = ["Bench", "benched"]


class Bench:
    """An engine, what it stands on, and short ways to have something happen."""

    def __init__(self, *, infer: bool = True, agentkit: bool = True) -> None:
        self.clock = MovedClock()
        self.since = self.clock.now
        self.store = open_store("sqlite:///:memory:")
        self.core = OpsCore(self.store, clock=self.clock)
        self._infer = infer
        self._agentkit = agentkit
        self.engine = self.engine_anew()

    def engine_anew(self) -> Engine:
        """Return an engine that knows nothing but what is in the store."""
        expressions = JmesPath()
        return Engine(
            self.store,
            clock=self.clock,
            mark=self.mark,
            parse=partial(parse, expressions=expressions, cron=next_run),
            expressions=expressions,
            cron=next_run,
            agentkit=self._agentkit,
            infer=self._infer,
            uniform=lambda low, high: high,
        )

    def mark(self) -> Watermark:
        """Somebody has been listening since `since`."""
        return Watermark(self.since, self.clock.now)

    @property
    def time(self) -> datetime:
        """Now."""
        return from_micros(self.clock.now)

    async def agent(
        self, agent_id: str = "a", *capabilities: str, route: Route | None = None
    ) -> None:
        """Make an agent known."""
        await self.core.register(
            Registration(
                agent_id=agent_id,
                agent_name=agent_id,
                version="1",
                capabilities=list(capabilities or ("c",)),
                contact_endpoint="http://127.0.0.1:9/task",
            ),
            route=route,
        )

    async def say(
        self, state: str, attempt: Claim | Task | None = None, agent_id: str = "a", **values: Any
    ) -> None:
        """Have an agent report a state, as `report` does, and hear it at once."""
        await self.report(state, attempt, agent_id, **values)
        await self.engine.hear("bench")

    async def report(
        self, state: str, attempt: Claim | Task | None = None, agent_id: str = "a", **values: Any
    ) -> None:
        """Have an agent report a state, and name an attempt if one is given."""
        details = values.pop("details", {})
        if attempt is not None:
            task = attempt.task if isinstance(attempt, Claim) else attempt
            details = {"opscore_task_id": attempt_id(task), **details}
        await self.core.report(
            agent_id,
            StateReport(
                agent_id=agent_id,
                timestamp=self.time,
                state=state,
                details=details or None,
                **values,
            ),
        )

    async def start(self, *tasks: dict[str, Any], **start: Any) -> str:
        """Start a workflow of these tasks for agent `a`; returns its session's id."""
        definition = {"id": "w", "name": "W", "tasks": list(tasks)}
        started = await self.engine.start(
            "a", WorkflowStart(workflow_definition=definition, **start)
        )
        return started.session_id

    async def claim(self) -> Claim:
        """Claim the one task that there is to claim."""
        claims = await self.engine.claim(10)
        assert len(claims) == 1, claims
        return claims[0]

    async def tasks(self, session_id: str) -> Sequence[Task]:
        """Return the tasks of a session."""
        run = await self.store.get_run(session_id)
        assert run is not None
        return list(run.tasks.values())

    async def task(self, session_id: str, node: str = "a") -> Task:
        """Return a node's own task."""
        return next(one for one in await self.tasks(session_id) if one.node == node)


@asynccontextmanager
async def benched(*, infer: bool = True, agentkit: bool = True) -> AsyncIterator[Bench]:
    """An engine with nothing in its store."""
    bench = Bench(infer=infer, agentkit=agentkit)
    await bench.store.open()
    try:
        yield bench
    finally:
        await bench.store.close()
