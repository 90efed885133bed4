"""What agents are told to stop: kept in memory, since every heartbeat asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.server.loops import Loop, spread

__all__ = ["StoppedAttempts"]

_LOOK: Final = 1.0


class StoppedAttempts:
    """The attempts that were cancelled or timed out, or that others took over, by instance."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: Mapping[tuple[str, str], Sequence[str]] = {}

    def of(self, agent_id: str, instance_id: str) -> Sequence[str]:
        """Return the attempts that an instance is to stop."""
        return self._known.get((agent_id, instance_id), ()) if self._known else ()

    def loop(self) -> Loop:
        """Return what looks each second."""
        return Loop(self._look, retry=_LOOK)

    async def _look(self) -> float:
        self._known = await self._engine.stopped()
        return spread(_LOOK)
