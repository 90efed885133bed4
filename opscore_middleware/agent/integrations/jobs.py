"""Jobs that a request has queued, and that a worker does later and elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context, copy_context
from typing import Final

from opscore_middleware.agent.integrations.protocol import OpenUnit, WorkUnit

__all__ = ["Jobs"]

_KEPT: Final = 4096
"""Of how many jobs that wait it is known where they come from; the earliest are forgotten first."""


class Jobs:
    """Brings each job back to the request that queued it, so that it ends the task of that.

    The wait in between is no work.
    """

    def __init__(self, open_unit: OpenUnit) -> None:
        self._open_unit = open_unit
        self._contexts: dict[str, Context] = {}

    def put(self, job: str) -> None:
        """Remember where a job comes from; called where the request runs, before it can begin."""
        self._contexts[job] = copy_context()
        if len(self._contexts) > _KEPT:
            self._contexts.pop(next(iter(self._contexts)), None)

    def forget(self, job: str) -> None:
        """Forget a job that was not queued after all."""
        self._contexts.pop(job, None)

    def accepted(self, job: str) -> None:
        """Take over the request of a job that waits: its answer is not the end of its task."""
        if job in self._contexts:
            with self._open_unit(None) as unit:
                unit.break_off()

    @contextmanager
    def unit(
        self, job: str, name: str, *, repeated: type[Exception] | tuple[()] = ()
    ) -> Iterator[WorkUnit]:
        """Count a job while it is done; after the exceptions of `repeated` it will be again."""
        unit = self._open_unit(name)
        context = self._contexts.pop(job, None)
        if context is None:
            unit.__enter__()
        else:
            context.run(unit.__enter__)
        with ExitStack() as ends:
            ends.push(unit)
            try:
                yield unit
            except repeated:
                unit.break_off()
                if context is not None:
                    self._contexts[job] = context
                raise
