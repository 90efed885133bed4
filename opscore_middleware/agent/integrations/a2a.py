"""Agents on the A2A Python SDK: what an `AgentExecutor` executes is the work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.integrations.protocol import OpenUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_overrides

__all__ = ["A2A"]


class A2A:
    """Opens a unit for each call of `AgentExecutor.execute`.

    It fails with an exception, and where the executor publishes that its task has failed or was
    rejected; not with what is answered as the caller's mistake, such as invalid parameters. A
    caller that did not want to wait has been answered with what was published first: a task that
    was still to be done is no result.
    """

    name = "a2a"
    module = "a2a.server.agent_execution.agent_executor"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap `execute` of every executor."""
        require_version("a2a-sdk", 1)
        states: Any = sys.modules["a2a.types"].TaskState
        failure_in = _reader(states)
        statuses: Any = sys.modules["a2a.utils.errors"].A2A_ERROR_MAPPING
        still_to_do = {states.Value(f"TASK_STATE_{name}") for name in ("SUBMITTED", "WORKING")}

        async def execute(method: Any, executor: Any, context: Any, event_queue: Any) -> Any:
            with open_unit(f"{type(executor).__qualname__}.execute") as unit:
                first: list[Any] = []

                def look(event: Any) -> None:
                    if not first:
                        first.append(_state_of(event))
                    failure = failure_in(event)
                    if failure is not None:
                        unit.fail(failure)

                try:
                    answer = await method(executor, context, _Overheard(event_queue, look))
                except Exception as raised:
                    # By its own class, as the framework does; any other it answers as its own.
                    known = statuses.get(type(raised))
                    if known is not None and known.http_code < 500:
                        unit.refuse(
                            known.http_code, Failure(type(raised).__qualname__, str(raised))
                        )
                    raise
                if _is_not_waited_for(context) and still_to_do.intersection(first):
                    unit.come_to(None)
                return answer

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


def _state_of(event: Any) -> Any:
    return getattr(getattr(event, "status", None), "state", None)


def _is_not_waited_for(context: Any) -> bool:
    asked = getattr(context, "configuration", None)
    return bool(getattr(asked, "return_immediately", False))


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
