"""Runs that begin by the clock: each time of a schedule once, however many replicas there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from opscore_middleware.core.clock import SECOND, from_micros, to_micros
from opscore_middleware.core.runs.advancing import EngineStore
from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import StoredWorkflow
from opscore_middleware.core.runs.starts import Starts
from opscore_middleware.core.runs.views import WorkflowStart
from opscore_middleware.core.workflows.definition import Missed, WorkflowDefinition
from opscore_middleware.core.workflows.validation import Cron
from opscore_middleware.errors import OpsCoreError, StoreUnavailable

__all__ = ["CAUGHT_UP", "CAUGHT_UP_WITHIN", "ON_TIME", "DueStarts", "Schedules"]

ON_TIME: Final = 60 * SECOND
"""A run that is begun no later than this after its time has not been missed. Microseconds."""

CAUGHT_UP: Final = 100
"""How many missed runs of a workflow are caught up on, the latest ones."""

CAUGHT_UP_WITHIN: Final = 7 * 86_400 * SECOND
"""How far back missed runs are caught up on, in microseconds."""

_REFRESH: Final = 10 * SECOND
_PAGE: Final = 1000


class DueStarts(NamedTuple):
    """How many runs were begun, and the workflows of which one could not be, with the reason."""

    started: int
    refused: tuple[tuple[str, OpsCoreError], ...]


class _Schedule(NamedTuple):
    """A schedule, and the time up to which it has been followed."""

    workflow: StoredWorkflow
    definition: WorkflowDefinition
    after: int
    next_at: int


class Schedules:
    """Follows the schedules of the latest version of each definition.

    Args:
        starts: starts runs.
        store: where definitions are.
        rules: reads them.
        cron: tells when a schedule comes true; without it, none does.
    """

    def __init__(
        self, starts: Starts, *, store: EngineStore, rules: Rules, cron: Cron | None
    ) -> None:
        self._starts = starts
        self._store = store
        self._rules = rules
        self._cron = cron
        self._followed: dict[str, _Schedule] = {}
        self._fresh_until = 0

    def refresh(self) -> None:
        """Look at all definitions anew, the next time."""
        self._fresh_until = 0

    async def start_due(self, now: int) -> DueStarts:
        """Begin the runs whose time has come, each under an id that is made of that time."""
        if self._cron is None:
            return DueStarts(0, ())
        is_fresh = self._fresh_until - _REFRESH <= now < self._fresh_until
        # Another replica may have kept a version since, with another schedule or none.
        if not is_fresh or any(one.next_at <= now for one in self._followed.values()):
            await self._look(self._cron, now)
            self._fresh_until = now + _REFRESH
        started, refused = 0, []
        for workflow_id, schedule in list(self._followed.items()):
            if schedule.next_at > now:
                continue
            for moment in self._due(self._cron, schedule, now):
                try:
                    started += await self._start(schedule, moment)
                except StoreUnavailable:
                    raise
                except OpsCoreError as error:
                    refused.append((workflow_id, error))
                    break
            self._followed[workflow_id] = self._from(
                self._cron, schedule.workflow, schedule.definition, now
            )
        return DueStarts(started, tuple(refused))

    async def _look(self, cron: Cron, now: int) -> None:
        found: dict[str, _Schedule] = {}
        after = None
        while True:
            page = await self._store.list_workflows(after=after, limit=_PAGE)
            for workflow in page:
                # Most have none, and need not be read for that.
                if '"schedule"' in workflow.definition:
                    definition = self._rules.plan_of(workflow).definition
                    if definition.schedule is not None:
                        found[workflow.workflow_id] = await self._schedule(
                            cron, workflow, definition, now
                        )
            if len(page) < _PAGE:
                self._followed = found
                return
            after = page[-1].workflow_id

    async def _schedule(
        self, cron: Cron, workflow: StoredWorkflow, definition: WorkflowDefinition, now: int
    ) -> _Schedule:
        known, schedule = self._followed.get(workflow.workflow_id), definition.schedule
        # A version with the same schedule goes on with it, and none of its times is passed over;
        # what was followed into a time to come, before the clock was put back, is begun anew.
        if known is not None and known.definition.schedule == schedule and known.after <= now:
            return known._replace(workflow=workflow, definition=definition)
        prefix = f"{workflow.workflow_id}@"
        latest = await self._store.latest_session(prefix)
        last = None if latest is None else _moment_in(latest.removeprefix(prefix))
        after = workflow.created_at if last is None else max(last, workflow.created_at)
        # A session of a time to come was never begun by its schedule, or the clock was put back.
        return self._from(cron, workflow, definition, min(after, now))

    def _from(
        self, cron: Cron, workflow: StoredWorkflow, definition: WorkflowDefinition, after: int
    ) -> _Schedule:
        next_at = next(_times(cron, definition.schedule or "", after))
        return _Schedule(workflow, definition, after, next_at)

    def _due(self, cron: Cron, schedule: _Schedule, now: int) -> Iterator[int]:
        """Go through the times that have come, without those that were missed for good."""
        is_kept = schedule.definition.missed is Missed.CATCH_UP
        begin = max(schedule.after, now - (CAUGHT_UP_WITHIN if is_kept else ON_TIME))
        latest: deque[int] = deque(maxlen=CAUGHT_UP)
        for moment in _times(cron, schedule.definition.schedule or "", begin):
            if moment > now:
                break
            latest.append(moment)
        yield from latest

    async def _start(self, schedule: _Schedule, moment: int) -> bool:
        workflow_id = schedule.workflow.workflow_id
        session_id = f"{workflow_id}@{from_micros(moment):%Y-%m-%dT%H:%M:%SZ}"
        return await self._starts.start_once(
            schedule.definition.agent_id or "",
            WorkflowStart(workflow_definition_id=workflow_id),
            session_id=session_id,
        )


def _times(cron: Cron, schedule: str, after: int) -> Iterator[int]:
    moment = from_micros(after)
    while True:
        moment = cron(schedule, moment)
        yield to_micros(moment)


def _moment_in(text: str) -> int | None:
    try:
        return to_micros(datetime.strptime(f"{text}+0000", "%Y-%m-%dT%H:%M:%SZ%z"))
    except ValueError:
        return None
