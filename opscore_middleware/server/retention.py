"""What the server lets go of by itself: what was lost or over for long, old history."""

from __future__ import annotations

from typing import Final

from opscore_middleware.core.clock import SECOND, Clock
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.store import RunStore
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.loops import Loop, spread

__all__ = ["forgetting", "forgetting_runs", "letting_go", "taking_out"]

log = get_logger(__name__)

_BATCH: Final = 1000
_RUNS: Final = 100  # sessions, each with all of its tasks
_DAY: Final = 86400 * SECOND
_BREATH: Final = 0.2  # between two batches, in which reports are written
_LOOK: Final = 10.0
_ROUND: Final = 60.0


def taking_out(opscore: OpsCore) -> Loop:
    """Take out, now and then, the agents that have been lost for as long as they wanted."""

    async def step() -> float:
        for agent_id in await opscore.deregister_overdue():
            log.info("agent_deregistered", agent_id=agent_id, reason="lost for deregisterAfter")
        return spread(_LOOK)

    return Loop(step, retry=_LOOK)


def letting_go(opscore: OpsCore, *, retention: float) -> Loop:
    """Let go, each minute, of instances finished or lost for so many seconds."""
    keep = round(retention * SECOND)

    async def step() -> float:
        if count := await opscore.forget_instances(keep=keep):
            log.info("instances_forgotten", instances=count)
        return spread(_ROUND)

    return Loop(step, retry=_ROUND)


def forgetting(opscore: OpsCore, *, days: float) -> Loop:
    """Forget, each minute, the transitions that are older than so many days."""
    keep = round(days * _DAY)
    forgotten = 0

    async def step() -> float:
        nonlocal forgotten
        count = await opscore.prune_history(keep=keep, limit=_BATCH)
        forgotten += count
        if count == _BATCH:
            return _BREATH
        if forgotten:
            log.info("history_forgotten", transitions=forgotten)
            forgotten = 0
        return spread(_ROUND)

    return Loop(step, retry=_ROUND)


def forgetting_runs(store: RunStore, *, days: float, clock: Clock) -> Loop:
    """Forget, each minute, the sessions that ended so many days ago, with their tasks."""
    keep = round(days * _DAY)
    forgotten = 0

    async def step() -> float:
        nonlocal forgotten
        count = await store.prune_runs(before=clock() - keep, limit=_RUNS)
        forgotten += count
        if count == _RUNS:
            return _BREATH
        if forgotten:
            log.info("sessions_forgotten", sessions=forgotten)
            forgotten = 0
        return spread(_ROUND)

    return Loop(step, retry=_ROUND)
