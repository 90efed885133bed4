"""How a task ended here, and which have, so that the end of each is told once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

from opscore_middleware.agent.delivery import parse_retry_after
from opscore_middleware.agent.results import RESULT, TaskResult

__all__ = ["ACCEPTED", "EndedTasks", "TaskEnd", "asked_to_wait"]

LIMIT: Final = 1024
"""How many are remembered; the earliest are forgotten first."""
ACCEPTED: Final = 202
"""The status that acknowledges a task and ends nothing."""
_LATER: Final = frozenset({429, 503})
_LONGEST_WAIT: Final = 86_400.0  # seconds; Ops-Core waits no longer either


def asked_to_wait(status: int, headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Return the seconds for which an answer that means "later" asks to be left alone, if any."""
    if status not in _LATER:
        return None
    said = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return parse_retry_after(said.decode("latin-1"), now=time.time(), longest=_LONGEST_WAIT)


class TaskEnd(NamedTuple):
    """What is told of the end of a task, where what worked on it says so itself.

    An attempt that was interrupted came to no end, yet nobody here works on it any more. `status`
    is one of HTTP's, 0 for none: 4xx says that there is no use in trying again. `error` says why it
    failed where that is no failure of the agent. `retry_after` is in seconds.
    """

    state: Literal["completed", "failed", "interrupted"]
    status: int = 0
    result: TaskResult | None = None
    error: dict[str, Any] | None = None
    retry_after: float | None = None

    def details(self) -> dict[str, Any]:
        """Return what a report says of it."""
        told: dict[str, Any] = {"opscore_task_state": self.state}
        if self.state == "failed" and self.status:
            told["opscore_task_status"] = self.status
            if self.retry_after is not None:
                told["opscore_task_retry_after"] = self.retry_after
        if self.result is not None:
            told[RESULT] = self.result
        return told if self.error is None else {**told, **self.error}


class EndedTasks:
    """Remembers the attempts that have ended; its caller holds a lock."""

    __slots__ = ("_ids", "_order")

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._order: deque[str] = deque()

    def ends(self, task_id: str, *, for_good: bool = True) -> bool:
        """Remember that an attempt has ended, if for good; False where it had ended before."""
        if task_id in self._ids:
            return False
        if not for_good:
            return True
        self._ids.add(task_id)
        self._order.append(task_id)
        if len(self._order) > LIMIT:
            self._ids.discard(self._order.popleft())
        return True
