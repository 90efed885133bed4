"""Steps, taken: how the engine changes runs, and lets those know who give tasks out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from opscore_middleware.core.clock import Clock
from opscore_middleware.core.runs.changes import changes
from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Advance, Run, Step
from opscore_middleware.core.runs.store import RunStore
from opscore_middleware.core.runs.tasks import ENDED, TaskState
from opscore_middleware.core.store import Store
from opscore_middleware.errors import StoreUnavailable

__all__ = ["EngineStore", "Stepper", "raise_first"]


class EngineStore(Store, RunStore, Protocol):
    """A store that keeps agents and what they do."""


def _nobody() -> None:
    """Wake nobody."""


class Stepper:
    """Takes steps of runs in a store; `ended` counts the tasks that these brought to an end.

    Args:
        store: where the runs are.
        clock: returns now, in microseconds since the Unix epoch.
        rules: what runs go by.
    """

    def __init__(self, store: EngineStore, *, clock: Clock, rules: Rules) -> None:
        self.store = store
        self.clock = clock
        self.rules = rules
        self.on_ready: Callable[[], None] = _nobody
        self.ended: Counter[TaskState] = Counter()

    async def session(self, session_id: str, step: Step) -> Run | None:
        """Take one step of a run; None where there is none. Raises what the step does."""
        return await self._one(Advance(step, session_id=session_id))

    async def task(self, task_id: str, step: Step) -> Run | None:
        """Take one step of the run of a task; None where there is none. Raises what it does."""
        return await self._one(Advance(step, task_id=task_id))

    async def all(self, steps: Sequence[Advance]) -> Sequence[Run | Exception | None]:
        """Take steps of many runs, each by itself; those that fail leave the others alone.

        Returns what became of each, as the store does. Raises `StoreUnavailable` where any of them
        may have to be taken again.
        """
        if not steps:
            return ()
        results = await self.store.advance([self._counted(one) for one in steps], now=self.clock())
        for result in results:
            if isinstance(result, StoreUnavailable):
                raise result
        self.on_ready()
        return results

    async def _one(self, advance: Advance) -> Run | None:
        (result,) = await self.store.advance((self._counted(advance),), now=self.clock())
        if isinstance(result, Exception):
            raise result
        if result is not None:
            self.on_ready()
        return result

    def _counted(self, advance: Advance) -> Advance:
        """Have a step count; one that the store takes twice may count twice."""

        def step(run: Run) -> Run:
            after = advance.step(run)
            for before, task in changes(run, after):
                if task.state in ENDED and (before is None or before.state not in ENDED):
                    self.ended[task.state] += 1
            return after

        return Advance(step, advance.session_id, advance.task_id)


def raise_first(results: Iterable[Run | Exception | None]) -> None:
    """Raise the first failure that there is: steps of this kind refuse nothing."""
    for result in results:
        if isinstance(result, Exception):
            raise result
