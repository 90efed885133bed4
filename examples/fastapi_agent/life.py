"""The agent's history, watched as Ops-Core learns of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from opscore_middleware.client import AsyncOpsCoreClient
from opscore_middleware.core.models import Transition
from opscore_middleware.core.watch import WatchQuery

__all__ = ["Life", "OtherStates"]


class OtherStates(Exception):
    """Ops-Core has learned something else than what has happened."""


class Life:
    """What Ops-Core knows of the one agent that reports to it.

    Args:
        ops_core: where to ask.
        learned: called with each transition that is new there.
    """

    def __init__(self, ops_core: AsyncOpsCoreClient, learned: Callable[[Transition], None]) -> None:
        self._ops_core = ops_core
        self._learned = learned
        self._grown = asyncio.Condition()
        self.agent_id: str | None = None
        self.transitions: list[Transition] = []

    @property
    def states(self) -> list[str]:
        """The states so far, oldest first."""
        return [transition.state for transition in self.transitions]

    async def follow(self) -> None:
        """Take in each transition as it comes."""
        async for transition in self._ops_core.watch(WatchQuery(after=0)):
            self.agent_id = transition.agent_id
            self._learned(transition)
            async with self._grown:
                self.transitions.append(transition)
                self._grown.notify_all()

    async def reaches(self, states: Sequence[str], *, within: float) -> None:
        """Wait until Ops-Core knows these states. Raises `OtherStates` when it knows others."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._grown:
                await self._grown.wait_for(lambda: len(self.transitions) >= len(states))
        if self.states[: len(states)] != list(states):
            raise self._otherwise(states)

    def states_are(self, states: Sequence[str]) -> None:
        """Raise `OtherStates` unless these states are all there are."""
        if self.states != list(states):
            raise self._otherwise(states)

    def _otherwise(self, expected: Sequence[str]) -> OtherStates:
        return OtherStates(
            "Ops-Core has learned something else than what has happened.\n"
            f"  expected: {' '.join(expected)}\n"
            f"  got:      {' '.join(self.states) or '(nothing)'}"
        )
