"""Apps on Gradio: what its queue runs is the work, not the requests that join it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, Final

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.integrations.jobs import Jobs
from opscore_middleware.agent.integrations.protocol import OpenUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_method

__all__ = ["Gradio"]

_RAISED: Final[ContextVar[list[Exception]]] = ContextVar("opscore_middleware_gradio_raised")


class Gradio:
    """Opens a unit for each event that the queue runs, from its begin to its last output.

    It fails with what its function raises, which the queue keeps to itself. Events that pass the
    queue by are requests like any others.
    """

    name = "gradio"
    module = "gradio.queueing"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap where the queue takes an event, where it runs some, and what it calls for that."""
        require_version("gradio", 6)
        jobs = Jobs(open_unit)

        async def push(method: Any, queue: Any, /, *args: Any, **more: Any) -> Any:
            answer = await method(queue, *args, **more)
            event = queue.event_ids_to_events.get(answer[1]) if answer[0] else None
            # One whose output was in a cache has been answered and was never queued.
            waiting = queue.event_queue_per_concurrency_id
            if event is not None and event in waiting[event.concurrency_id].queue:
                jobs.put(answer[1])
                jobs.accepted(answer[1])
            return answer

        async def process(method: Any, queue: Any, events: Any, /, *args: Any, **more: Any) -> None:
            begun = [event for event in events if event.alive]  # the others have been left
            raised: list[Exception] = []
            _RAISED.set(raised)
            with ExitStack() as units:
                for event in begun:
                    name = f"event {event.fn.api_name or event.fn.name}"
                    unit = units.enter_context(jobs.unit(_id_of(event), name))
                    units.callback(_look, unit, event, raised)
                await method(queue, events, *args, **more)

        async def call(method: Any, /, *args: Any, **more: Any) -> Any:
            try:
                return await method(*args, **more)
            except Exception as error:
                _RAISED.get([]).append(error)
                raise

        queue = sys.modules[self.module].Queue
        routing = sys.modules["gradio.route_utils"]
        wrap_method(queue, "push", ("self", "body", "request"), push)
        wrap_method(queue, "process_events", ("self", "events", "batch"), process)
        wrap_method(routing, "call_process_api", ("app", "body"), call)


def _id_of(event: Any) -> str:
    return str(event._id)  # noqa: SLF001 # what `push` has answered with goes by this name only


def _look(unit: Any, event: Any, raised: list[Exception]) -> None:
    """Tell a unit how its event has ended."""
    if raised:
        unit.fail(Failure(type(raised[0]).__qualname__, str(raised[0])))
    elif not event.alive:
        unit.break_off()
