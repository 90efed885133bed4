"""The agent's history as Ops-Core has it, followed as it grows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from opscore_middleware.client import AsyncOpsCoreClient
from opscore_middleware.core.models import HistoryQuery, Order, Transition

__all__ = ["Life", "OtherStates"]

_POLL: Final = 0.05
_OLDEST_FIRST: Final = HistoryQuery(order=Order.ASC, limit=1000)


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
        """Ask for the history again and again."""
        while True:
            if self.agent_id is None:
                agents = (await self._ops_core.list_agents()).items
                self.agent_id = agents[0].agent_id if agents else None
            else:
                page = await self._ops_core.history(self.agent_id, _OLDEST_FIRST)
                await self._add(page.items[len(self.transitions) :])
            await asyncio.sleep(_POLL)

    async def _add(self, transitions: Sequence[Transition]) -> None:
        for transition in transitions:
            self._learned(transition)
        async with self._grown:
            self.transitions += transitions
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
