"""What agents say, heard: each report once for all replicas, in the order in which it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.runs.advancing import Stepper, raise_first
from opscore_middleware.core.runs.kept import Kept
from opscore_middleware.core.runs.records import Advance, Run, Word
from opscore_middleware.core.runs.steps.words import Said, heard, inferred, said_of
from opscore_middleware.core.runs.tasks import Route, Task, TaskState

__all__ = ["TOLD_TO_STOP", "Heard", "Hearing"]

TOLD_TO_STOP: Final = 600 * SECOND
"""How long an agent is told to stop an attempt that was taken from it, and heard if it has done
it all the same. Microseconds."""

_LEASE: Final = 10 * SECOND
_AT_ONCE: Final = 2000
_KEPT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Heard:
    """How many reports were heard, and whether there may be more at once."""

    count: int
    more: bool


class Hearing:
    """Hears reports, and does what they mean for attempts.

    Args:
        stepper: takes the steps.
        infer: whether reports that name no attempt can mean one, for agents that never name any.
    """

    def __init__(self, stepper: Stepper, *, infer: bool) -> None:
        self._stepper = stepper
        self._store = stepper.store
        self._infer = infer
        self._names: Kept[str, bool] = Kept(_KEPT)
        self._routes: Kept[str, Route | None] = Kept(_KEPT)

    def note_route(self, agent_id: str, route: Route | None) -> None:
        """Note which route the store holds for an agent's best."""
        self._routes[agent_id] = route

    async def hear(self, holder: str) -> Heard:
        """Hear what has been said since the last time, if it is this holder's turn."""
        now = self._stepper.clock()
        after = await self._store.hearing(holder=holder, lease=_LEASE, now=now)
        if after is None:
            return Heard(0, more=False)
        words, up_to = await self._store.words(
            after=after, limit=_AT_ONCE, since=now - TOLD_TO_STOP
        )
        results = await self._take(words)
        if up_to > after:
            await self._store.heard(holder=holder, event_id=up_to)
        raise_first(results)  # only now: what fails by itself would fail for ever
        return Heard(len(words), more=len(words) >= _AT_ONCE)

    async def _take(self, words: Sequence[Word]) -> Sequence[Run | Exception | None]:
        said = [said_of(word.details) for word in words]
        for word, one in zip(words, said, strict=True):
            if one is not None or word.instance_id:
                self._names[word.agent_id] = True
        nameless = {word.agent_id for word, one in zip(words, said, strict=True) if one is None}
        attempts = await self._attempts(nameless)
        now = self._stepper.clock()
        steps: list[Advance] = []
        for word, one in zip(words, said, strict=True):
            step = self._step(word, one, attempts, now)
            if step is not None:
                steps.append(step)
        results = await self._stepper.all(steps)
        await self._remember_routes(steps, results)
        return results

    def _step(
        self, word: Word, said: Said | None, attempts: Mapping[str, Task], now: int
    ) -> Advance | None:
        rules = self._stepper.rules
        if said is not None:
            step = partial(heard, rules=rules, word=word, said=said, now=now)
            return Advance(step, task_id=said.task_id)
        task = attempts.get(word.agent_id)
        if task is None:
            return None
        return Advance(
            partial(
                inferred,
                rules=rules,
                word=word,
                task_id=task.task_id,
                attempt=task.attempt,
                now=now,
            ),
            task_id=task.task_id,
        )

    async def _attempts(self, agent_ids: Iterable[str]) -> dict[str, Task]:
        """Return the open attempts of those agents that never name what they work on."""
        if not self._infer:
            return {}
        nameless = [agent_id for agent_id in agent_ids if not await self._does_name(agent_id)]
        if not nameless:
            return {}
        tasks = await self._store.open_tasks(nameless)
        return {task.agent_id: task for task in tasks if task.agent_id and not task.instance_id}

    async def _does_name(self, agent_id: str) -> bool:
        """Tell whether an agent has ever had an instance, or named what it works on."""
        known = self._names.get(agent_id)
        if known is None:
            self._names[agent_id] = known = await self._store.has_named(agent_id)
        return known

    async def _remember_routes(
        self, steps: Sequence[Advance], results: Sequence[Run | Exception | None]
    ) -> None:
        """Remember by which routes agents were reached that have begun what they were sent."""
        for step, run in zip(steps, results, strict=True):
            if not isinstance(run, Run) or step.task_id is None:
                continue
            task = run.tasks.get(step.task_id)
            if task is None or task.state is TaskState.DISPATCHED or task.started_at is None:
                continue
            agent_id, route = task.agent_id, task.route
            if agent_id is None or route is None or self._routes.get(agent_id) is route:
                continue
            self._routes[agent_id] = route
            await self._store.prefer_route(agent_id, route)
