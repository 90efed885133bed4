"""The engine against agents of every kind that begin, end, fail, repeat themselves and vanish.

Whatever comes in whatever order: no task is lost, none ends twice, no slot holds two attempts, the
most urgent go first, and once all agents are well each session comes to an end.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine
from functools import partial
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from opscore_middleware.core.clock import from_micros
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.models import Heartbeat, Registration, StateReport
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.records import Claim, Run
from opscore_middleware.core.runs.tasks import ENDED, OPEN, Route, Task, TaskState, attempt_id
from opscore_middleware.core.runs.views import TaskProgress, TaskResult, WorkflowStart
from opscore_middleware.core.sessions import TERMINAL, SessionState
from opscore_middleware.core.workflows.validation import parse
from opscore_middleware.errors import Conflict
from opscore_middleware.notations.expressions import JmesPath
from opscore_middleware.stores import open_store
from tests.support.clock import MovedClock
from tests.support.postgres import empty

T = TypeVar("T")

TWICE = {"maximumAttempts": 2, "initialInterval": "1s"}
CLOSE = {"scheduleToClose": "20h"}


def node(task_id: str, **fields: Any) -> dict[str, Any]:
    return {"taskId": task_id, "name": task_id, "agentCapability": "c", "timeouts": CLOSE, **fields}


WORKFLOWS: list[list[dict[str, Any]]] = [
    [node("one", priority=1)],
    [node("a", nextTaskId="b"), node("b", priority=2, parameters={"a": "{{ tasks.a.state }}"})],
    [
        node("list"),
        node("each", forEach="initialPayload.list", priority=-1, dependsOn=["list"], retry=TWICE),
        node("last", dependsOn=["each"]),
    ],
    [
        node("risky", retry={"maximumAttempts": 1}, fallbackTaskId="safe"),
        node("safe"),
        node("maybe", onFailure="continue", retry=TWICE),
        node("after", dependsOn=["risky", "maybe"], agentId="silent"),
    ],
]


class Instance(NamedTuple):
    """A process of an agent: how it speaks, and what it works on."""

    agent_id: str
    instance_id: str | None
    names_tasks: bool
    works_on: set[str]


class Dispatch(RuleBasedStateMachine):
    """Three agents, one of them with two instances behind one endpoint, and a few sessions."""

    def __init__(self, address: str = "sqlite:///:memory:") -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = MovedClock()
        self.since = self.clock.now
        self.store = open_store(address)
        expressions = JmesPath()
        self.core = OpsCore(self.store, clock=self.clock)
        self.engine = Engine(
            self.store,
            clock=self.clock,
            mark=lambda: Watermark(self.since, self.clock.now),
            parse=partial(parse, expressions=expressions),
            expressions=expressions,
            agentkit=True,
            uniform=lambda low, high: high,
        )
        self.sequences: Counter[str] = Counter()
        self.instances = [
            Instance("names", None, True, set()),
            Instance("silent", None, False, set()),
            Instance("ours", "i1", True, set()),
            Instance("ours", "i2", True, set()),
        ]
        self.claimed: dict[str, Claim] = {}
        self.said: list[StateReport] = []
        self.told: dict[str, list[Any]] = {}
        self.sessions: list[str] = []
        self.ended: dict[str, Task] = {}
        self.do(self._open())

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    async def _open(self) -> None:
        await self.store.open()
        for agent_id in ("names", "silent", "ours"):
            await self.core.register(
                Registration(
                    agent_id=agent_id,
                    agent_name=agent_id,
                    version="1",
                    capabilities=["c"],
                    contact_endpoint="http://127.0.0.1:9/task",
                )
            )
        for instance in self.instances:
            await self._say(instance, None)
        await self._pass_time(0)

    def teardown(self) -> None:
        try:
            self.do(self._heal())
            self.nothing_is_out_of_order()
        finally:
            self.do(self.store.close())
            self.runner.close()

    # --- agents ----------------------------------------------------------------------------------

    async def _say(self, instance: Instance, attempt: str | None, **details: Any) -> None:
        """Have an instance report what it does, and what it says of an attempt."""
        named = {} if attempt is None or not instance.names_tasks else {"opscore_task_id": attempt}
        values: dict[str, Any] = {}
        if instance.instance_id is not None:
            self.sequences[instance.instance_id] += 1
            values = {
                "instance_id": instance.instance_id,
                "sequence": self.sequences[instance.instance_id],
            }
        elif details:
            details = {"error": details["error"]} if "error" in details else {}
        state = "active" if instance.works_on else "idle"
        if "error" in details and not instance.works_on:
            state = "error"
        report = StateReport(
            agent_id=instance.agent_id,
            timestamp=from_micros(self.clock.now),
            state=state,
            details={**named, **details} or None,
            **values,
        )
        self.said.append(report)
        await self.core.report(instance.agent_id, report)
        if state == "error":
            await self._say(instance, None)

    def _work(self, pick: int) -> tuple[Instance, str] | None:
        pairs = [(one, attempt) for one in self.instances for attempt in sorted(one.works_on)]
        return pairs[pick % len(pairs)] if pairs else None

    @rule(pick=st.integers(0, 9), elsewhere=st.booleans())
    def an_agent_begins(self, pick: int, elsewhere: bool) -> None:
        """It got an attempt, maybe another of its instances than was thought of."""
        waiting = [
            attempt
            for attempt in self.claimed
            if not any(attempt in one.works_on for one in self.instances)
        ]
        if not waiting:
            return
        attempt = waiting[pick % len(waiting)]
        endpoint = self.claimed.pop(attempt).endpoint
        able = [one for one in self.instances if one.agent_id == endpoint.agent_id]
        same = [one for one in able if (one.instance_id or "") == endpoint.instance_id]
        taker = (able if elsewhere else same or able)[-1 if elsewhere else 0]
        taker.works_on.add(attempt)
        self.do(self._say(taker, attempt))

    @rule(pick=st.integers(0, 9), result=st.sampled_from([None, 1, {"n": 2}]))
    def an_agent_completes(self, pick: int, result: Any) -> None:
        if (work := self._work(pick)) is None:
            return
        instance, attempt = work
        instance.works_on.discard(attempt)
        ours = instance.instance_id is not None
        self.told.setdefault(attempt, []).append(result if ours else None)
        done = {"opscore_task_state": "completed", "opscore_task_result": result}
        self.do(self._say(instance, attempt, **done))

    @rule(pick=st.integers(0, 9), status=st.sampled_from([500, 500, 422, 429]))
    def an_agent_fails(self, pick: int, status: int) -> None:
        if (work := self._work(pick)) is None:
            return
        instance, attempt = work
        instance.works_on.discard(attempt)
        error = {"type": "Broken", "message": "It broke."}
        self.do(
            self._say(
                instance,
                attempt,
                opscore_task_state="failed",
                opscore_task_status=status,
                error=error,
            )
        )

    @rule(pick=st.integers(0, 9), result=st.sampled_from(["posted", 7]))
    def an_agent_posts_its_result(self, pick: int, result: Any) -> None:
        if (work := self._work(pick)) is None:
            return
        instance, attempt = work
        self.told.setdefault(attempt, []).append(result)
        try:
            self.do(self.engine.progress(attempt, TaskProgress(progress=0.5)))
            for _ in range(2):
                self.do(
                    self.engine.finish(attempt, TaskResult(result=result), by=instance.agent_id)
                )
        except Conflict:
            pass  # somebody was faster: another attempt, a time, or a person
        instance.works_on.discard(attempt)
        self.do(self._say(instance, None))

    @precondition(lambda self: self.said)
    @rule(pick=st.integers(0, 99))
    def something_old_is_said_again(self, pick: int) -> None:
        """Raw reports are events each time; of ours, the repeat is told by its sequence."""
        report = self.said[-1 - pick % len(self.said)]
        named = (report.details or {}).get("opscore_task_id")
        if named is not None:
            self.do(self.core.report(report.agent_id, report))

    @rule(which=st.sampled_from([2, 3]))
    def an_instance_is_killed_and_another_one_comes(self, which: int) -> None:
        old = self.instances[which]
        self.do(self._pass_time(60, without=old))
        fresh = f"{(old.instance_id or '')[:2]}-{len(self.said)}"
        self.instances[which] = Instance(old.agent_id, fresh, True, set())
        self.do(self._say(self.instances[which], None))
        self.do(self._pass_time(0))

    # --- Ops-Core --------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 4))
    def tasks_are_claimed(self, limit: int) -> None:
        self.do(self._claim(limit))

    async def _claim(self, limit: int) -> None:
        claims = await self.engine.claim(limit)
        for claim in claims:
            attempt = attempt_id(claim.task)
            assert attempt not in self.claimed, "given out twice"
            self.claimed[attempt] = claim
        urgent = [claim.task.priority for claim in claims if claim.task.pinned is None]
        for run in [await self._run(one) for one in self.sessions] if urgent else []:
            if run.state not in (SessionState.STARTED, SessionState.RUNNING):
                continue
            for task in run.tasks.values():
                is_ready = task.state is TaskState.READY and (task.ready_at or 0) <= self.clock.now
                assert not (is_ready and task.pinned is None and task.priority > min(urgent)), (
                    f"{task.task_id} should have gone first"
                )

    @rule(pick=st.integers(0, 9), how=st.sampled_from(["taken", "refused", "later", "away"]))
    def an_attempt_is_sent(self, pick: int, how: str) -> None:
        if not self.claimed:
            return
        attempt = list(self.claimed)[pick % len(self.claimed)]
        task = self.claimed[attempt].task
        if how == "taken":
            self.do(self.engine.sent(task, Route.DIRECT))
            return
        del self.claimed[attempt]
        self.do(
            self.engine.not_sent(
                task,
                error={"type": "NotSent", "message": how},
                final=how == "refused",
                later=how == "later",
                retry_after=3.0 if how == "later" else None,
            )
        )

    @rule()
    def what_was_said_is_heard(self) -> None:
        self.do(self._hear())

    async def _hear(self) -> None:
        while (await self.engine.hear("me")).more:
            pass

    @rule(seconds=st.sampled_from([1, 10, 31, 700]))
    def time_passes(self, seconds: int) -> None:
        self.do(self._pass_time(seconds))

    async def _pass_time(self, seconds: int, *, without: Instance | None = None) -> None:
        self.clock.move(seconds)
        for instance in self.instances:
            if instance.instance_id is not None and instance is not without:
                await self.core.heartbeat(
                    instance.agent_id,
                    Heartbeat(
                        instance_id=instance.instance_id,
                        state="idle",
                        sequence=self.sequences[instance.instance_id],
                        interval_seconds=10,
                    ),
                )
        await self._hear()
        for claim in await self.engine.expire():
            assert claim.task.rerouted
            self.claimed.setdefault(attempt_id(claim.task), claim)

    # --- people ----------------------------------------------------------------------------------

    @precondition(lambda self: len(self.sessions) < 6)
    @rule(tasks=st.sampled_from(WORKFLOWS))
    def a_session_is_started(self, tasks: list[dict[str, Any]]) -> None:
        definition = {"id": f"w{WORKFLOWS.index(tasks)}", "name": "W", "tasks": tasks}
        start = WorkflowStart(workflow_definition=definition, initial_payload={"list": [1, 2]})
        self.sessions.append(self.do(self.engine.start("ours", start)).session_id)

    @precondition(lambda self: self.sessions)
    @rule(
        pick=st.integers(0, 9),
        what=st.sampled_from(["pause", "resume", "resume", "retry", "retry", "cancel"]),
    )
    def somebody_steers_a_session(self, pick: int, what: str) -> None:
        session_id = self.sessions[pick % len(self.sessions)]
        verb = getattr(self.engine, f"{what}_session")
        try:
            self.do(verb(session_id))
        except Conflict:
            pass  # it is over, or goes on as it is
        else:
            if what == "retry":
                self._forget(session_id)

    @precondition(lambda self: self.sessions)
    @rule(pick=st.integers(0, 9), other=st.integers(0, 9), retry=st.booleans())
    def somebody_steers_a_task(self, pick: int, other: int, retry: bool) -> None:
        session_id = self.sessions[pick % len(self.sessions)]
        tasks = list(self.do(self._run(session_id)).tasks)
        task_id = tasks[other % len(tasks)]
        verb = self.engine.retry_task if retry else self.engine.cancel_task
        try:
            self.do(verb(task_id))
        except Conflict:
            pass  # it is over, or goes on as it is
        else:
            if retry:
                self._forget(session_id)
        assert self.do(self.engine.why(task_id)).why

    def _forget(self, session_id: str) -> None:
        self.ended = {k: task for k, task in self.ended.items() if task.session_id != session_id}

    # --- what must hold --------------------------------------------------------------------------

    async def _run(self, session_id: str) -> Run:
        run = await self.store.get_run(session_id)
        assert run is not None
        return run

    @invariant()
    def nothing_is_out_of_order(self) -> None:
        slots: Counter[tuple[str | None, str | None]] = Counter()
        for run in [self.do(self._run(one)) for one in self.sessions]:
            for task in run.tasks.values():
                self._check(task)
                if task.state in OPEN and task.agent_id is not None:
                    slots[task.agent_id, task.instance_id] += 1
            is_over = run.state in TERMINAL
            assert is_over == all(task.state in ENDED for task in run.tasks.values())
            assert is_over == (run.ended_at is not None)
        assert all(count == 1 for count in slots.values()), slots

    def _check(self, task: Task) -> None:
        was = self.ended.get(task.task_id)
        if was is not None:
            assert (task.state, task.result, task.ended_at) == (
                was.state,
                was.result,
                was.ended_at,
            ), "ended twice"
        if task.state in ENDED:
            self.ended[task.task_id] = task
            assert task.deadline_at is None
            assert task.ended_at is not None
            if task.state is TaskState.COMPLETED and task.agent_id is not None:
                self._check_result(task)
        elif task.state is TaskState.WAITING:
            assert task.ready_at is None
        elif task.state is TaskState.READY:
            assert task.ready_at is not None
        elif task.agent_id is not None:
            assert task.deadline_at is not None, "it could be out for ever"

    def _check_result(self, task: Task) -> None:
        """What a task came to is what an agent said of its latest attempt."""
        known = self.told.get(attempt_id(task), [])
        result = None if task.result is None else json.loads(task.result)
        assert result in known or (result is None and task.inferred), (task, known)

    async def _heal(self) -> None:
        """Have all agents well, and see each session come to its end."""
        for session_id in self.sessions:
            if (await self._run(session_id)).state is SessionState.PAUSED:
                await self.engine.resume_session(session_id)
        self.claimed.clear()
        for instance in self.instances:
            instance.works_on.clear()
            await self._say(instance, None)
        for _ in range(60):
            states = [(await self._run(one)).state for one in self.sessions]
            if all(state in TERMINAL for state in states):
                return
            await self._pass_time(700)
            for instance in self.instances:
                await self._say(instance, None)
            await self._claim(10)
            for attempt, claim in list(self.claimed.items()):
                del self.claimed[attempt]
                await self._do_all_of(attempt, claim)
        raise AssertionError(f"sessions that never end: {self.sessions}")

    async def _do_all_of(self, attempt: str, claim: Claim) -> None:
        who = claim.endpoint
        (instance,) = [
            one
            for one in self.instances
            if (one.agent_id, one.instance_id or "") == (who.agent_id, who.instance_id)
        ]
        instance.works_on.add(attempt)
        await self._say(instance, attempt)
        instance.works_on.clear()
        done = {"opscore_task_state": "completed", "opscore_task_result": "done"}
        await self._say(instance, attempt, **done)
        self.told.setdefault(attempt, []).append("done" if instance.instance_id else None)
        await self._hear()


SETTINGS = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestDispatch = Dispatch.TestCase
TestDispatch.settings = SETTINGS


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_postgresql_keeps_to_it_as_well(postgres: str) -> None:
    class OnPostgres(Dispatch):
        """The same, in a database that is empty each time."""

        def __init__(self) -> None:
            empty(postgres)
            super().__init__(postgres)

    run_state_machine_as_test(OnPostgres, settings=SETTINGS)
