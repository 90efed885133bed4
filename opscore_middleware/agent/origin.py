"""Where work comes from: what a request and the units tracked within it share."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any, Final

from opscore_middleware.agent.correlation import Task
from opscore_middleware.agent.ended import TaskEnd
from opscore_middleware.agent.outbox import Instance
from opscore_middleware.agent.runtime import AgentRuntime

__all__ = ["CURRENT", "Origin", "leave"]


class Origin:
    """One request, message or lifespan, as far as the units that are tracked within it go.

    Made for each request, so it is plain: class attributes are the defaults, and only what
    differs is set.
    """

    task: Task | None = None
    """The task that came with it."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime

    def open_unit(self) -> Instance:
        """Begin a tracked unit; what is returned goes to `close_unit`."""
        return self.runtime.tracker.begin()

    def take_over(self) -> Instance:
        """Begin a unit that alone counts from here on, where there is a request to take over."""
        return self.open_unit()

    def close_unit(
        self,
        unit: Instance,
        failure: dict[str, Any] | None,
        *,
        cut_off: bool,
        end: TaskEnd | None = None,
    ) -> None:
        """End a tracked unit, with the details of its failure where it failed.

        `cut_off` says that it neither failed nor came to its own end, `end` how the task ended that
        came with it, where the unit knows.
        """
        if failure is None:
            self.runtime.tracker.end(unit)
        else:
            self.runtime.tracker.fail(unit, failure)


CURRENT: Final[ContextVar[Origin]] = ContextVar("opscore_middleware_origin")
"""The origin of the code that runs. Tasks and threads that copy the context inherit it."""


def leave(token: Token[Origin]) -> None:
    """Give the caller its own back: it may be a request to another agent, served in this task."""
    try:
        CURRENT.reset(token)
    except ValueError:
        pass  # abandoned, and closed by the collector wherever it ran
