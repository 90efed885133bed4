"""Dead letters: having all of them done again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from opscore_middleware.core.runs.advancing import Stepper, raise_first
from opscore_middleware.core.runs.records import Advance, Run
from opscore_middleware.core.runs.steps.task_steps import retry_dead
from opscore_middleware.core.runs.tasks import Task, TaskState

__all__ = ["replay_dead"]

_PAGE: Final = 1000


async def replay_dead(stepper: Stepper) -> int:
    """Have all tasks done again that failed for good and keep a session from its end.

    Returns how many.
    """
    replayed, after = 0, None
    while True:
        found = await stepper.store.list_tasks(
            session_id=None,
            state=TaskState.FAILED,
            agent_id=None,
            capability=None,
            after=after,
            limit=_PAGE,
        )
        replayed += await _replay(stepper, found)
        if len(found) < _PAGE:
            return replayed
        after = (found[-1].created_at, found[-1].task_id)


async def _replay(stepper: Stepper, dead: Sequence[Task]) -> int:
    step = partial(retry_dead, rules=stepper.rules, now=stepper.clock())
    session_ids = list(dict.fromkeys(task.session_id for task in dead))
    results = await stepper.all([Advance(step, session_id=one) for one in session_ids])
    raise_first(results)
    runs = {run.session_id: run for run in results if isinstance(run, Run)}
    return sum(
        runs[task.session_id].tasks[task.task_id].state is not TaskState.FAILED
        for task in dead
        if task.session_id in runs
    )
