"""What the server lets go of by itself: what was lost or over for long, old history."""

from __future__ import annotations

import random
from typing import Final

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.loops import Loop

__all__ = ["forgetting", "letting_go", "taking_out"]

log = get_logger(__name__)

_BATCH: Final = 1000
_DAY: Final = 86400 * SECOND
_BREATH: Final = 0.2  # between two batches, in which reports are written
_LOOK: Final = 10.0
_ROUND: Final = 60.0


def taking_out(opscore: OpsCore) -> Loop:
    """Take out, now and then, the agents that have been lost for as long as they wanted."""

    async def step() -> float:
        for agent_id in await opscore.deregister_overdue():
            log.info("agent_deregistered", agent_id=agent_id, reason="lost for deregisterAfter")
        return _LOOK * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, no secret

    return Loop(step, retry=_LOOK)


def letting_go(opscore: OpsCore, *, retention: float) -> Loop:
    """Let go, each minute, of instances finished or lost for so many seconds."""
    keep = round(retention * SECOND)

    async def step() -> float:
        if count := await opscore.forget_instances(keep=keep):
            log.info("instances_forgotten", instances=count)
        return _ROUND * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, no secret

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
        # Spread, so that replicas do not come as one.
        return _ROUND * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, no secret

    return Loop(step, retry=_ROUND)
