"""What is known of the agent at one moment."""

from __future__ import annotations

from typing import NamedTuple

from opscore_middleware.agent.outbox import Instance
from opscore_middleware.core.states import AgentState

__all__ = ["View"]


class View(NamedTuple):
    """The tracker at one moment."""

    instance: Instance
    state: AgentState
    sequence: int
    in_flight: int
