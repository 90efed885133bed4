"""What a handler knows of the task that it works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anyio.lowlevel import checkpoint

__all__ = ["TaskContext"]


def _nobody(progress: float, message: str | None) -> None:
    """Tell nobody, where a handler is called outside of a task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """The task that a handler was called for.

    `task_id` names this attempt at the task; `payload` holds the parameters as they came. Made by
    hand, for a handler's own tests, it reports nothing.
    """

    name: str
    task_id: str | None = None
    session_id: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[[float, str | None], None] = field(default=_nobody, repr=False)

    async def progress(self, done: float, message: str | None = None) -> None:
        """Tell Ops-Core how far the task is, from 0 to 1; waits for nothing.

        What is told faster than it can be sent goes: the latest counts.

        Raises:
            ValueError: it is not between 0 and 1.
        """
        if not 0.0 <= done <= 1.0:
            raise ValueError(f"progress is from 0 to 1, not {done!r}")
        self.tell(float(done), message)
        await checkpoint()  # so that a handler can be cancelled where it says how far it is
