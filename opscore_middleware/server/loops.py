"""What the server does by itself: listen, each second, and see whom AgentKit has not told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, NoReturn

from opscore_middleware.agentkit import AsyncAgentKit, missing
from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.doubt import Doubt
from opscore_middleware.core.jitter import between
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.errors import OpsCoreError
from opscore_middleware.server.logs import get_logger

__all__ = ["Loop", "Pause", "Step", "reconciliation", "repeat", "running", "spread", "watch"]

log = get_logger(__name__)

Pause = Callable[[float], Awaitable[None]]
"""Waits for so many seconds; `asyncio.sleep` unless a test moves time."""

Step = Callable[[], Awaitable[float]]
"""Does something and returns the seconds until it is to be done again."""

LISTEN: Final = 1.0
RECONCILE: Final = 30.0
ASK_AGAIN: Final = 600.0


class Loop(NamedTuple):
    """A step that is done for ever, and the seconds after which one that failed is tried again."""

    step: Step
    retry: float


def spread(seconds: float) -> float:
    """Return a time around that many seconds, so that replicas do not come as one."""
    return seconds * between(0.75, 1.25)


@asynccontextmanager
async def running(loops: Mapping[str, Loop], pause: Pause) -> AsyncIterator[None]:
    """Go round all loops, each in a task that has its name, until the block ends."""
    tasks = [
        asyncio.create_task(repeat(name, loop, pause), name=name) for name, loop in loops.items()
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def repeat(name: str, loop: Loop, pause: Pause) -> NoReturn:
    """Go round a loop for ever. A step that fails is told of once, and tried again."""
    failing = False
    while True:
        try:
            wait = await loop.step()
        except Exception as error:
            if not failing:
                expected = isinstance(error, OpsCoreError)
                log.error("loop_failed", loop=name, detail=str(error), exc_info=not expected)
            failing, wait = True, loop.retry
        else:
            if failing:
                log.info("loop_recovered", loop=name)
            failing = False
        await pause(wait)


def watch(opscore: OpsCore) -> Loop:
    """Note each second that Ops-Core is listening; without it nobody is ever lost."""

    async def step() -> float:
        before = opscore.doubt
        await opscore.tick()
        _tell_doubt(before, opscore.doubt)
        return LISTEN

    return Loop(step, retry=LISTEN)


def _tell_doubt(before: Doubt | None, after: Doubt | None) -> None:
    if before is None and after is not None:
        log.warning(
            "doubting_itself",
            silent=after.silent,
            fleet=after.fleet,
            until=from_micros(after.until).isoformat(),
            detail="Most of the fleet fell silent together, so nobody is called lost until then; "
            "check the network to this server.",
        )
    elif before is not None and after is None:
        log.info("doubt_over", silent=before.silent, fleet=before.fleet)


def reconciliation(opscore: OpsCore, agentkit: AsyncAgentKit) -> Loop:
    """Register, now and then, the agents that AgentKit lists and Ops-Core was never told of."""
    return Loop(_Reconciliation(opscore, agentkit), retry=RECONCILE)


class _Reconciliation:
    """Registers the agents that AgentKit lists and Ops-Core was never told of.

    Most versions of AgentKit list none; those are asked again now and then, in case of an update.
    """

    def __init__(self, opscore: OpsCore, agentkit: AsyncAgentKit) -> None:
        self._opscore = opscore
        self._agentkit = agentkit
        self._known: set[str] = set()  # an agent that was known once stays known
        self._told = False

    async def __call__(self) -> float:
        listed = await self._agentkit.agents()
        if listed is None:
            if not self._told:
                log.info("agentkit_lists_no_agents", url=self._agentkit.url)
                self._told = True
            return ASK_AGAIN
        for agent_id in {agent.agent_id for agent in listed} - self._known:
            if await self._opscore.is_known(agent_id):
                self._known.add(agent_id)
        for registration in missing(listed, self._known):
            agent, _ = await self._opscore.register(registration, route=Route.AGENTKIT)
            self._known.add(agent.agent_id)
            log.info("agent_reconciled", agent_id=agent.agent_id, agent_name=agent.agent_name)
        return spread(RECONCILE)
