"""Agents on the A2A Python SDK: what an `AgentExecutor` executes is the work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from opscore_middleware.agent.envelopes import Failure
from opscore_middleware.agent.integrations.protocol import OpenUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_overrides

__all__ = ["A2A"]


class A2A:
    """Opens a unit for each call of `AgentExecutor.execute`.

    It fails with an exception, and where the executor publishes that its task has failed or was
    rejected.
    """

    name = "a2a"
    module = "a2a.server.agent_execution.agent_executor"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap `execute` of every executor."""
        require_version("a2a-sdk", 1)
        failure_in = _reader(sys.modules["a2a.types"].TaskState)

        async def execute(method: Any, executor: Any, context: Any, event_queue: Any) -> Any:
            with open_unit(f"{type(executor).__qualname__}.execute") as unit:

                def look(event: Any) -> None:
                    failure = failure_in(event)
                    if failure is not None:
                        unit.fail(failure)

                return await method(executor, context, _Overheard(event_queue, look))

        wrap_overrides(sys.modules[self.module].AgentExecutor, "execute", execute)


class _Overheard:
    """An event queue that lets an integration see what is published; all else is the queue's."""

    def __init__(self, queue: Any, look: Callable[[Any], None]) -> None:
        self._queue = queue
        self._look = look

    @property  # type: ignore[misc] # as a mock's: executors may ask which kind of queue it is
    def __class__(self) -> Any:
        return type(self._queue)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def enqueue_event(self, event: Any) -> Any:
        self._look(event)
        return await self._queue.enqueue_event(event)


def _reader(states: Any) -> Callable[[Any], Failure | None]:
    """Return what reads the failure out of an event."""
    names = {states.Value(name): name for name in ("TASK_STATE_FAILED", "TASK_STATE_REJECTED")}

    def failure_in(event: Any) -> Failure | None:
        try:
            status: Any = getattr(event, "status", None)
            name = names.get(status.state) if status is not None else None
            if name is None or status is None:
                return None
            words = "\n".join(part.text for part in status.message.parts if part.text)
        except Exception:
            return None  # somebody's own event; the framework will see to it
        return Failure(f"A2A {name}", words or "no message given")

    return failure_in
