"""Workflows and dispatch, one object: what the HTTP routes, the dispatch loops and tests call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from opscore_middleware.core import cursors
from opscore_middleware.core.clock import Clock, from_micros
from opscore_middleware.core.jitter import between
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.models import Page
from opscore_middleware.core.refusals import unknown_session
from opscore_middleware.core.runs.advancing import EngineStore, Stepper
from opscore_middleware.core.runs.expiring import Expiry
from opscore_middleware.core.runs.hearing import TOLD_TO_STOP, Heard, Hearing
from opscore_middleware.core.runs.kept import Kept
from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Claim, Creation, Run, Step
from opscore_middleware.core.runs.refusals import runs_no_workflow, unknown_task
from opscore_middleware.core.runs.replaying import replay_dead
from opscore_middleware.core.runs.schedules import DueStarts, Schedules
from opscore_middleware.core.runs.starts import Parse, Starts
from opscore_middleware.core.runs.steps import session_steps, task_steps
from opscore_middleware.core.runs.steps.filling import as_known_json
from opscore_middleware.core.runs.steps.finishing import finished, progressed
from opscore_middleware.core.runs.steps.sending import not_sent, sent
from opscore_middleware.core.runs.tasks import Route, Task, TaskState, split_attempt_id
from opscore_middleware.core.runs.views import (
    TaskProgress,
    TaskQuery,
    TaskResult,
    TaskView,
    Why,
    WorkflowQuery,
    WorkflowStart,
    WorkflowStarted,
    WorkflowView,
    as_task,
    counted,
    task_of,
)
from opscore_middleware.core.runs.why import why
from opscore_middleware.core.sessions import Session, SessionChange, SessionState, changed
from opscore_middleware.core.workflows.expressions import Expressions
from opscore_middleware.core.workflows.validation import Cron
from opscore_middleware.errors import StoreUnavailable

__all__ = ["Engine"]

_KEPT: Final = 10_000


class Engine:
    """Runs workflows: gives tasks out, hears what becomes of them, and goes on from there.

    Args:
        store: where everything is kept; opened and closed by the caller.
        clock: returns now, in microseconds since the Unix epoch.
        mark: returns since when agents are listened to; None before the first look.
        parse: reads definitions that somebody wrote.
        expressions: reads what is between the braces of a definition.
        cron: tells when a schedule comes true; without it, none does.
        agentkit: whether there is an AgentKit to send through.
        infer: whether reports that name no task can mean one, for agents that never name any.
        uniform: draws a number between two.
    """

    def __init__(
        self,
        store: EngineStore,
        *,
        clock: Clock,
        mark: Callable[[], Watermark | None],
        parse: Parse,
        expressions: Expressions,
        cron: Cron | None = None,
        agentkit: bool = False,
        infer: bool = True,
        uniform: Callable[[float, float], float] = between,
    ) -> None:
        self.store = store
        self._clock = clock
        self._mark = mark
        self._rules = Rules(expressions, uniform=uniform)
        self._stepper = Stepper(store, clock=clock, rules=self._rules)
        self._starts = Starts(self._stepper, parse=parse)
        self._hearing = Hearing(self._stepper, infer=infer)
        self._expiry = Expiry(self._stepper, agentkit=agentkit)
        self._schedules = Schedules(self._starts, store=store, rules=self._rules, cron=cron)
        self._workflow_ids: Kept[str, str] = Kept(_KEPT)

    @property
    def on_ready(self) -> Callable[[], None]:
        """What is called when there may be something to claim."""
        return self._stepper.on_ready

    @on_ready.setter
    def on_ready(self, wake: Callable[[], None]) -> None:
        self._stepper.on_ready = wake

    @property
    def ended(self) -> Counter[TaskState]:
        """The tasks that this engine has brought to an end, by state."""
        return self._stepper.ended

    # --- definitions -----------------------------------------------------------------------------

    async def save_workflow(
        self, document: Mapping[str, Any], *, creation: Creation | None = None
    ) -> tuple[WorkflowView, bool]:
        """Keep a definition as the next version of its id; the same again is not new.

        Returns it and whether it is new. Raises `InvalidDefinition`, and what a `creation` may.
        """
        saved = await self._starts.save(document, creation=creation)
        self._schedules.refresh()
        return saved

    async def workflow(self, workflow_id: str, version: int | None = None) -> WorkflowView:
        """Return a definition, its latest version unless told. Raises `WorkflowNotFound`."""
        return await self._starts.workflow(workflow_id, version)

    async def workflows(self, query: WorkflowQuery | None = None) -> Page[WorkflowView]:
        """List the latest version of each definition, by id. Raises `InvalidCursor`."""
        return await self._starts.workflows(query or WorkflowQuery())

    # --- sessions --------------------------------------------------------------------------------

    async def start(
        self,
        agent_id: str,
        start: WorkflowStart,
        *,
        creation: Creation | None = None,
        session_id: str | None = None,
        traceparent: str | None = None,
    ) -> WorkflowStarted:
        """Start a workflow for an agent, as `Starts.start` does; raises what that raises."""
        return await self._starts.start(
            agent_id, start, creation=creation, session_id=session_id, traceparent=traceparent
        )

    async def run_session(self, session_id: str) -> Session:
        """Return a session. Raises `SessionNotFound`."""
        session = await self.store.get_session(session_id)
        if session is None:
            raise unknown_session(session_id)
        return session

    async def cancel_session(self, session_id: str) -> Session:
        """End a session and all its tasks. Raises `SessionNotFound` or `SessionEnded`."""
        return await self._change(session_id, session_steps.cancel, SessionState.CANCELLED)

    async def pause_session(self, session_id: str) -> Session:
        """Give nothing of a session out any more. Raises `SessionNotFound` or `SessionEnded`."""
        return await self._change(session_id, session_steps.pause, SessionState.PAUSED)

    async def resume_session(self, session_id: str) -> Session:
        """Have a paused session go on. Raises `SessionNotFound` or `SessionEnded`."""
        return await self._change(session_id, session_steps.resume, SessionState.RUNNING)

    async def retry_session(self, session_id: str) -> Session:
        """Have a session go on that failed or was cancelled.

        Raises `SessionNotFound`, `Conflict` where it goes on, `SessionEnded` where it is
        completed.
        """
        step = partial(task_steps.retry_session, rules=self._rules, now=self._clock())
        run = await self._stepper.session(session_id, step)
        session = await self.run_session(session_id)
        if run is None:
            raise runs_no_workflow(session_id)
        return session

    async def counts(self, session_id: str) -> Mapping[TaskState, int] | None:
        """Count a session's tasks by state; None where it runs no workflow."""
        run = await self.store.get_run(session_id)
        return None if run is None else counted(run)

    async def _change(
        self, session_id: str, step: Callable[..., Run], state: SessionState
    ) -> Session:
        now = self._clock()
        run = await self._stepper.session(session_id, partial(step, rules=self._rules, now=now))
        if run is not None:
            return await self.run_session(session_id)

        def turned(session: Session) -> Session:
            if state is SessionState.RUNNING and session.state is not SessionState.PAUSED:
                return session
            return changed(session, SessionChange(state=state), from_micros(now))

        session = await self.store.update_session(session_id, turned)
        if session is None:
            raise unknown_session(session_id)
        return session

    # --- tasks -----------------------------------------------------------------------------------

    async def task(self, task_id: str) -> TaskView:
        """Return a task, by its id or that of an attempt. Raises `TaskNotFound`."""
        return await self._view(await self._task(task_id))

    async def tasks(self, query: TaskQuery | None = None) -> Page[TaskView]:
        """List tasks, newest first. Raises `InvalidCursor`."""
        query = query or TaskQuery()
        found = await self.store.list_tasks(
            session_id=query.session_id,
            state=TaskState.FAILED if query.dead else query.state,
            agent_id=query.agent_id,
            capability=query.capability,
            after=cursors.moment_and_id(query.cursor),
            limit=query.limit + 1,
        )
        items = [await self._view(task) for task in found[: query.limit]]
        if len(found) <= query.limit:
            return Page(items=items)
        last = found[query.limit - 1]
        return Page(items=items, next_cursor=cursors.encode([last.created_at, last.task_id]))

    async def why(self, task_id: str) -> Why:
        """Say in one sentence why a task is not running. Raises `TaskNotFound`."""
        task = await self._task(task_id)
        mark, now = self._mark(), self._clock()
        sentence = await why(task, store=self.store, rules=self._rules, mark=mark, now=now)
        return Why(task_id=task.task_id, state=task.state, why=sentence)

    async def finish(self, named: str, outcome: TaskResult, *, by: str | None = None) -> Run:
        """End an attempt, named by its id or as its task's open one; the same again is harmless.

        Returns the run as it is then; `task_of` shows the task as it travels, which costs more than
        all else here and which few look at.

        `by` is the agent that says so, None for whoever may speak for all. Raises `TaskNotFound`,
        `Superseded`, `TaskEnded`, `Forbidden` for another agent's attempt, `Conflict` where nobody
        works on the task.
        """
        task_id, attempt = split_attempt_id(named)
        has_failed = outcome.error is not None
        step = partial(
            finished,
            rules=self._rules,
            task_id=task_id,
            attempt=attempt,
            result=None if has_failed else as_known_json(outcome.result),
            error=outcome.error,
            by=by,
            now=self._clock(),
        )
        return await self._run(task_id, step)

    async def progress(
        self, named: str, progress: TaskProgress, *, by: str | None = None
    ) -> TaskView:
        """Note how far an attempt is. Raises as `finish` does."""
        task_id, attempt = split_attempt_id(named)
        step = partial(
            progressed,
            rules=self._rules,
            task_id=task_id,
            attempt=attempt,
            progress=progress.progress,
            message=progress.message,
            by=by,
            now=self._clock(),
        )
        return await self._step(task_id, step)

    async def cancel_task(self, task_id: str) -> TaskView:
        """End a task. Raises `TaskNotFound` or `TaskEnded`."""
        task_id, _ = split_attempt_id(task_id)
        step = partial(
            task_steps.cancel_task, rules=self._rules, task_id=task_id, now=self._clock()
        )
        return await self._step(task_id, step)

    async def retry_task(self, task_id: str) -> TaskView:
        """Have a task done again. Raises `TaskNotFound`, `Conflict` or `SessionEnded`."""
        task_id, _ = split_attempt_id(task_id)
        step = partial(task_steps.retry_task, rules=self._rules, task_id=task_id, now=self._clock())
        return await self._step(task_id, step)

    async def replay_dead(self) -> int:
        """Have all tasks done again that failed for good and keep a session from its end.

        Returns how many.
        """
        return await replay_dead(self._stepper)

    async def _step(self, task_id: str, step: Step) -> TaskView:
        return task_of(await self._run(task_id, step), task_id)

    async def _run(self, task_id: str, step: Step) -> Run:
        run = await self._stepper.task(task_id, step)
        if run is None:
            raise unknown_task(task_id)
        return run

    async def _task(self, task_id: str) -> Task:
        task = await self.store.get_task(split_attempt_id(task_id)[0])
        if task is None:
            raise unknown_task(task_id)
        return task

    async def _view(self, task: Task) -> TaskView:
        workflow_id = self._workflow_ids.get(task.session_id)
        if workflow_id is None:
            session = await self.store.get_session(task.session_id)
            workflow_id = None if session is None else session.workflow_id
            if workflow_id is not None:
                self._workflow_ids[task.session_id] = workflow_id
        return as_task(task, workflow_id=workflow_id)

    # --- dispatch --------------------------------------------------------------------------------

    async def claim(self, limit: int) -> Sequence[Claim]:
        """Give ready tasks to agents that are free, at most so many; each is to be sent.

        Raises `StoreUnavailable`, after which some may have been given out all the same: those are
        sent as if this engine had ended in between.
        """
        try:
            claims = await self.store.claim(limit=limit, mark=self._mark(), now=self._clock())
        except StoreUnavailable:
            self._expiry.lapsed()
            raise
        for claim in claims:
            self._hearing.note_route(claim.endpoint.agent_id, claim.endpoint.preferred)
        return claims

    async def sent(self, task: Task, route: Route) -> None:
        """Note that an attempt was accepted on a route, which is not yet to be begun."""
        if task.route is not route:
            step = partial(sent, task_id=task.task_id, attempt=task.attempt, route=route)
            await self._stepper.task(task.task_id, step)

    async def not_sent(
        self,
        task: Task,
        *,
        error: dict[str, Any],
        final: bool = False,
        later: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """Take back an attempt that did not reach its agent, or that it refused.

        It counts as spent, unless `later`: the agent has no room, and is tried again after
        `retry_after` seconds. With `final` the task is not tried again at all.
        """
        step = partial(
            not_sent,
            rules=self._rules,
            task_id=task.task_id,
            attempt=task.attempt,
            error=error,
            final=final,
            later=later,
            retry_after=retry_after,
            now=self._clock(),
        )
        await self._stepper.task(task.task_id, step)

    async def hear(self, holder: str) -> Heard:
        """Hear what agents have said since the last time, where it is this holder's turn."""
        return await self._hearing.hear(holder)

    async def expire(self) -> Sequence[Claim]:
        """Do what is overdue; returns the attempts that are to be sent again, by `task.route`."""
        return await self._expiry.expire(self._mark())

    async def start_due(self) -> DueStarts:
        """Start what schedules ask for; each time comes once, however many replicas there are."""
        return await self._schedules.start_due(self._clock())

    async def next_ready_at(self) -> int | None:
        """Return when the next task can be claimed that waits for its time; None without any."""
        return await self.store.next_ready_at(after=self._clock())

    async def stopped(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """Return the attempts that agents are to stop, by agent and instance."""
        found: dict[tuple[str, str], list[str]] = {}
        for one in await self.store.stopped(since=self._clock() - TOLD_TO_STOP):
            found.setdefault((one.agent_id, one.instance_id), []).append(one.attempt_id)
        return found
