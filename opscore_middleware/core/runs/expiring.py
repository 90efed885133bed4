"""What is overdue: attempts that nobody begins or ends, tasks whose time is up, lost instances."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.runs.advancing import Stepper, raise_first
from opscore_middleware.core.runs.records import Advance, Claim, Endpoint, Run
from opscore_middleware.core.runs.routes import other_route, routes_of
from opscore_middleware.core.runs.steps.timeouts import lost, timed_out
from opscore_middleware.core.runs.tasks import OPEN, Route, Task, TaskState
from opscore_middleware.errors import StoreUnavailable

__all__ = ["Expiry"]

_AT_ONCE: Final = 1000

_TO_BE_HEARD: Final = 15 * SECOND
"""How long agents are given to say what they did while nobody listened, once somebody does."""


class _Due(NamedTuple):
    """A task that is due, and the way that is left to its agent."""

    task: Task
    endpoint: Endpoint | None
    route: Route | None


class Expiry:
    """Does what is due.

    Args:
        stepper: takes the steps.
        agentkit: whether there is an AgentKit to send through.
    """

    def __init__(self, stepper: Stepper, *, agentkit: bool) -> None:
        self._stepper = stepper
        self._store = stepper.store
        self._agentkit = agentkit
        self._since = stepper.clock()
        self._lapsed_at = 0

    def lapsed(self) -> None:
        """Note that the store was away, maybe with attempts that were given out and whose giver
        was never told of them, so that nobody has sent them."""
        self._lapsed_at = self._stepper.clock()

    async def expire(self, mark: Watermark | None) -> Sequence[Claim]:
        """Do what is due, as far as somebody was listening; return what is to be sent again.

        An attempt that was out while nobody listened may have been begun, or be over, without
        Ops-Core having been told: its agent is given time to say so. So it is with what was out
        before this process began: a restart may be too short for a gap in the watermark, and yet
        agents that were turned away come back only when their back-off is over.
        """
        if mark is None:
            return ()
        try:
            again = await self._overdue(mark)
            await self._lost(mark)
        except StoreUnavailable:
            self.lapsed()
            raise
        return again

    async def _overdue(self, mark: Watermark) -> Sequence[Claim]:
        now = self._stepper.clock()
        tasks = await self._store.due(now=now, limit=_AT_ONCE)
        # The clock may have been ahead then.
        self._since = min(self._since, now)
        self._lapsed_at = min(self._lapsed_at, now)
        since = max(mark.since, self._since)
        due = [await self._way(task, since) for task in tasks if not _is_excused(task, since, now)]
        rules = self._stepper.rules
        steps = [
            Advance(
                partial(
                    timed_out,
                    rules=rules,
                    task_id=one.task.task_id,
                    other_route=one.route,
                    now=now,
                ),
                task_id=one.task.task_id,
            )
            for one in due
        ]
        results = await self._stepper.all(steps)
        again = [
            claim
            for one, run in zip(due, results, strict=True)
            if isinstance(run, Run) and (claim := _again(one, run)) is not None
        ]
        raise_first(results)
        return again

    async def _way(self, task: Task, since: int) -> _Due:
        if task.state is not TaskState.DISPATCHED or task.rerouted or task.agent_id is None:
            return _Due(task, None, None)
        endpoint = await self._store.endpoint(task.agent_id, task.instance_id or "")
        if endpoint is None:
            return _Due(task, None, None)
        way = other_route(endpoint, task.route, agentkit=self._agentkit)
        unsure_until = max(since, self._lapsed_at)
        if way is None and task.dispatched_at is not None and task.dispatched_at < unsure_until:
            # Whoever gave it out may have ended before it was sent: it goes the only way there is.
            way = next(iter(routes_of(endpoint, agentkit=self._agentkit)), None)
        return _Due(task, endpoint, way)

    async def _lost(self, mark: Watermark) -> None:
        now = self._stepper.clock()
        rules = self._stepper.rules
        tasks = await self._store.on_lost_instances(mark=mark, limit=_AT_ONCE)
        results = await self._stepper.all(
            [
                Advance(
                    partial(lost, rules=rules, task_id=task.task_id, attempt=task.attempt, now=now),
                    task_id=task.task_id,
                )
                for task in tasks
            ]
        )
        raise_first(results)


def _is_excused(task: Task, since: int, now: int) -> bool:
    return (
        task.state in OPEN
        and task.dispatched_at is not None
        and task.dispatched_at < since
        and now < since + _TO_BE_HEARD
    )


def _again(due: _Due, run: Run) -> Claim | None:
    """Return what is to be sent by the other route, if the step has decided so."""
    task = run.tasks[due.task.task_id]
    if due.endpoint is None or not task.rerouted or task.attempt != due.task.attempt:
        return None
    if task.state is not TaskState.DISPATCHED or task.route is not due.route:
        return None
    return Claim(task, due.endpoint, run.workflow.workflow_id, run.traceparent)
