"""The engine on a store: definitions, starts, reports and time, from claim to end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.models import Heartbeat
from opscore_middleware.core.runs.records import Creation, Repeated
from opscore_middleware.core.runs.tasks import Route, TaskState
from opscore_middleware.core.runs.views import (
    TaskProgress,
    TaskQuery,
    TaskResult,
    WorkflowQuery,
    WorkflowStart,
)
from opscore_middleware.core.sessions import SessionChange, SessionStart, SessionState
from opscore_middleware.errors import (
    AgentNotFound,
    Conflict,
    InvalidCursor,
    InvalidDefinition,
    SessionNotFound,
    StoreUnavailable,
    TaskNotFound,
    ValidationFailed,
    WorkflowNotFound,
)
from tests.core.engine_support import Bench, benched
from tests.core.play import one

pytestmark = pytest.mark.asyncio

DONE = {"opscore_task_state": "completed"}


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched() as bench:
        await bench.agent()
        await bench.say("idle")
        yield bench


# --- definitions and starts ----------------------------------------------------------------------


async def test_a_definition_is_kept_as_it_was_said(bench: Bench) -> None:
    document = {"id": "w", "name": "W", "tasks": [one("a", timeouts={"startToClose": "90s"})]}
    view, is_new = await bench.engine.save_workflow(document)
    assert (view.workflow_id, view.version, is_new) == ("w", 1, True)
    assert view.definition["tasks"][0]["timeouts"] == {"startToClose": "90s"}
    assert await bench.engine.save_workflow(document) == (view, False)
    changed = {**document, "name": "X"}
    assert (await bench.engine.save_workflow(changed))[0].version == 2
    assert (await bench.engine.workflow("w")).name == "X"
    assert (await bench.engine.workflow("w", 1)).name == "W"
    with pytest.raises(WorkflowNotFound, match="version 3"):
        await bench.engine.workflow("w", 3)
    with pytest.raises(InvalidDefinition):
        await bench.engine.save_workflow({"id": "w"})


async def test_definitions_are_listed_by_the_page(bench: Bench) -> None:
    for name in ("x", "y", "z"):
        await bench.engine.save_workflow({"id": name, "name": name, "tasks": [one("a")]})
    first = await bench.engine.workflows(WorkflowQuery(limit=2))
    assert [view.workflow_id for view in first.items] == ["x", "y"]
    last = await bench.engine.workflows(WorkflowQuery(limit=2, cursor=first.next_cursor))
    assert ([view.workflow_id for view in last.items], last.next_cursor) == (["z"], None)
    with pytest.raises(InvalidCursor):
        await bench.engine.workflows(WorkflowQuery(cursor="nonsense"))


async def test_a_start_names_a_definition_or_brings_one(bench: Bench) -> None:
    document = {"id": "w", "name": "W", "tasks": [one("a")]}
    for start in (
        WorkflowStart(),
        WorkflowStart(workflow_definition=document, workflow_definition_id="w"),
    ):
        with pytest.raises(ValidationFailed, match="workflowDefinitionId"):
            await bench.engine.start("a", start)
    with pytest.raises(WorkflowNotFound):
        await bench.engine.start("a", WorkflowStart(workflow_definition_id="w"))
    with pytest.raises(AgentNotFound):
        await bench.engine.start("nobody", WorkflowStart(workflow_definition=document))
    assert (await bench.engine.workflows()).items == [], "nothing is kept for a start that fails"
    started = await bench.engine.start("a", WorkflowStart(workflow_definition=document))
    session = await bench.engine.run_session(started.session_id)
    assert (session.workflow_id, session.workflow_version) == ("w", 1)
    again = await bench.engine.start("a", WorkflowStart(workflow_definition_id="w"))
    assert again.session_id != started.session_id


async def test_a_start_under_a_key_happens_once(bench: Bench) -> None:
    creation = Creation("k", "f", bench.clock.now + SECOND, lambda made: made.session_id)
    start = WorkflowStart(workflow_definition={"id": "w", "name": "W", "tasks": [one("a")]})
    started = await bench.engine.start("a", start, creation=creation)
    with pytest.raises(Repeated) as raised:
        await bench.engine.start("a", start, creation=creation)
    assert raised.value.answer == started.session_id


# --- tasks ---------------------------------------------------------------------------------------


async def test_results_flow_to_the_end_of_a_session(bench: Bench) -> None:
    session_id = await bench.start(
        one("a", nextTaskId="b"),
        one("b", parameters={"n": "{{ tasks.a.result.n }}"}),
        initial_payload={"p": 1},
    )
    claim = await bench.claim()
    assert json.loads(claim.task.parameters or "") == {"p": 1}
    await bench.say("active", claim)
    await bench.say(
        "idle",
        claim,
        sequence=2,
        instance_id="i",
        details={**DONE, "opscore_task_result": {"n": 5}},
    )
    claim = await bench.claim()
    assert json.loads(claim.task.parameters or "") == {"n": 5}
    await bench.engine.finish(claim.task.task_id, TaskResult(result="end"))
    session = await bench.engine.run_session(session_id)
    assert session.state is SessionState.COMPLETED
    assert session.result == {"a": {"n": 5}, "b": "end"}
    counts = await bench.engine.counts(session_id)
    assert counts is not None
    assert counts[TaskState.COMPLETED] == 2


async def test_tasks_are_shown_and_listed(bench: Bench) -> None:
    session_id = await bench.start(one("a"), one("b"), one("c", nextTaskId="d"), one("d"))
    first = await bench.engine.tasks(TaskQuery(session_id=session_id, limit=3))
    rest = await bench.engine.tasks(TaskQuery(limit=3, cursor=first.next_cursor))
    assert sorted(view.node for view in [*first.items, *rest.items]) == ["a", "b", "c", "d"]
    waiting = await bench.engine.tasks(TaskQuery(state=TaskState.WAITING))
    assert [(view.node, view.workflow_id) for view in waiting.items] == [("d", "w")]
    task_id = waiting.items[0].task_id
    assert await bench.engine.task(f"{task_id}.3") == waiting.items[0]
    with pytest.raises(TaskNotFound):
        await bench.engine.task("nothing")


async def test_progress_is_shown(bench: Bench) -> None:
    await bench.start(one("a"))
    claim = await bench.claim()
    told = TaskProgress(progress=0.25, message="a quarter")
    view = await bench.engine.progress(f"{claim.task.task_id}.1", told, by="a")
    assert (view.state, view.progress, view.progress_message) == ("running", 0.25, "a quarter")


async def test_progress_with_a_nul_in_it_is_told_so_that_every_store_can_keep_it(
    bench: Bench,
) -> None:
    await bench.start(one("a"))
    claim = await bench.claim()
    told = TaskProgress.model_validate_json(r'{"progress": 0.5, "message": "half\u0000way"}')
    view = await bench.engine.progress(f"{claim.task.task_id}.1", told, by="a")
    assert view.progress_message == "half\ufffdway"


async def test_dead_tasks_are_listed_and_replayed(bench: Bench) -> None:
    once = {"maximumAttempts": 1}
    session_ids = [await bench.start(one("a", retry=once)) for _ in range(2)]
    passed_over = await bench.start(one("a", retry=once, onFailure="continue"))
    for _ in range(3):
        claim = await bench.claim()
        await bench.engine.not_sent(claim.task, error={"type": "T", "message": "m"})
    dead = await bench.engine.tasks(TaskQuery(dead=True))
    assert len(dead.items) == 3
    assert await bench.engine.replay_dead() == 2
    for session_id in session_ids:
        assert (await bench.engine.run_session(session_id)).state is SessionState.RUNNING
    assert (await bench.engine.run_session(passed_over)).state is SessionState.COMPLETED
    assert await bench.engine.replay_dead() == 0


# --- sessions ------------------------------------------------------------------------------------


async def test_a_paused_session_gives_nothing_out(bench: Bench) -> None:
    session_id = await bench.start(one("a"))
    assert (await bench.engine.pause_session(session_id)).state is SessionState.PAUSED
    assert await bench.engine.claim(10) == []
    assert (await bench.engine.resume_session(session_id)).state is SessionState.STARTED
    await bench.claim()


async def test_a_note_on_a_paused_session_makes_its_pause_no_shorter(bench: Bench) -> None:
    session_id = await bench.start(one("a", timeouts={"scheduleToClose": "1h"}))
    await bench.engine.pause_session(session_id)
    bench.clock.move(2 * 3600)
    noted = SessionChange(metadata={"why": "the budget is spent"})
    assert (await bench.core.update_session(session_id, noted)).metadata == noted.metadata
    await bench.engine.resume_session(session_id)
    await bench.engine.expire()
    await bench.say("idle")
    await bench.claim()


async def test_who_works_on_a_cancelled_session_is_told_to_stop(bench: Bench) -> None:
    session_id = await bench.start(one("a"))
    claim = await bench.claim()
    await bench.say("active", claim)
    assert (await bench.engine.cancel_session(session_id)).state is SessionState.CANCELLED
    assert await bench.engine.stopped() == {("a", ""): [f"{claim.task.task_id}.1"]}
    bench.clock.move(601)
    assert await bench.engine.stopped() == {}


async def test_who_turns_up_with_a_cancelled_attempt_is_told_to_stop(bench: Bench) -> None:
    for instance_id in ("i", "j"):
        await bench.say("idle", instance_id=instance_id, sequence=1)
    session_id = await bench.start(one("a"))
    claim = await bench.claim()
    await bench.engine.cancel_session(session_id)
    (other,) = {"i", "j"} - {claim.task.instance_id}
    for sequence, word in ((2, "active"), (3, "error")):
        await bench.say(word, claim, instance_id=other, sequence=sequence)
        assert f"{claim.task.task_id}.1" in (await bench.engine.stopped())["a", other]


async def test_a_session_without_a_workflow_can_be_steered_too(bench: Bench) -> None:
    plain, _ = await bench.core.start_session(SessionStart(agent_id="a"))
    engine, session_id = bench.engine, plain.session_id
    assert (await engine.resume_session(session_id)).state is SessionState.STARTED
    assert (await engine.pause_session(session_id)).state is SessionState.PAUSED
    assert (await engine.resume_session(session_id)).state is SessionState.RUNNING
    assert (await engine.cancel_session(session_id)).state is SessionState.CANCELLED
    assert await engine.counts(session_id) is None
    with pytest.raises(Conflict, match="runs no workflow"):
        await engine.retry_session(session_id)


async def test_a_session_that_is_not_known_is_said_to_be(bench: Bench) -> None:
    engine = bench.engine
    for verb in (
        engine.run_session,
        engine.cancel_session,
        engine.pause_session,
        engine.resume_session,
        engine.retry_session,
    ):
        with pytest.raises(SessionNotFound):
            await verb("nothing")


# --- hearing -------------------------------------------------------------------------------------


async def test_an_agent_that_never_names_its_work_is_understood(bench: Bench) -> None:
    session_id = await bench.start(one("a"))
    await bench.claim()
    await bench.say("active")
    assert (await bench.task(session_id)).inferred
    await bench.say("idle")
    task = await bench.task(session_id)
    assert (task.state, task.inferred) == ("completed", True)


async def test_nothing_is_inferred_where_that_is_switched_off() -> None:
    async with benched(infer=False) as bench:
        await bench.agent()
        await bench.say("idle")
        session_id = await bench.start(one("a"))
        await bench.claim()
        await bench.say("active")
        assert (await bench.task(session_id)).state == "dispatched"


async def test_an_agent_that_names_its_work_means_something_else_when_it_does_not(
    bench: Bench,
) -> None:
    await bench.start(one("a"))
    claim = await bench.claim()
    await bench.say("active", claim)
    await bench.say("idle", claim)
    session_id = await bench.start(one("a"))
    await bench.claim()
    await bench.say("active")
    assert (await bench.task(session_id)).state == "dispatched"
    for _ in range(300):
        await bench.say("active")
    bench.engine = bench.engine_anew()
    await bench.say("active")
    assert (await bench.task(session_id)).state == "dispatched", "a restart forgets nothing"


async def test_nothing_is_inferred_for_an_agent_that_has_instances(bench: Bench) -> None:
    await bench.say("idle", instance_id="i", sequence=1)
    session_id = await bench.start(one("a"))
    await bench.claim()
    await bench.say("active")
    await bench.say("active", instance_id="i", sequence=2)
    assert (await bench.task(session_id)).state == "dispatched"


async def test_only_one_hears_at_a_time(bench: Bench) -> None:
    await bench.start(one("a"))
    claim = await bench.claim()
    assert (await bench.engine.hear("another")).count == 0
    await bench.say("active", claim)
    bench.clock.move(11)
    await bench.report("idle", claim)
    assert (await bench.engine.hear("another")).count == 1
    assert (await bench.engine.hear("bench")).count == 0


async def test_the_route_that_worked_is_taken_the_next_time(bench: Bench) -> None:
    await bench.start(one("a"))
    claim = await bench.claim()
    assert claim.endpoint.preferred is None
    await bench.engine.sent(claim.task, Route.AGENTKIT)
    await bench.say("active", claim)
    await bench.say("idle", claim)
    await bench.start(one("a"))
    claim = await bench.claim()
    assert (claim.endpoint.preferred, claim.task.route) == (Route.AGENTKIT, Route.AGENTKIT)


async def test_who_claims_is_woken_by_what_makes_tasks_ready(bench: Bench) -> None:
    woken: list[bool] = []
    bench.engine.on_ready = lambda: woken.append(True)
    await bench.start(one("a", nextTaskId="b"), one("b"))
    assert woken
    claim = await bench.claim()
    woken.clear()
    await bench.engine.finish(claim.task.task_id, TaskResult())
    assert woken


# --- time ----------------------------------------------------------------------------------------


async def test_an_attempt_that_nobody_begins_is_sent_by_the_other_route(bench: Bench) -> None:
    session_id = await bench.start(one("a"))
    claim = await bench.claim()
    await bench.engine.sent(claim.task, Route.DIRECT)
    bench.clock.move(29)
    assert await bench.engine.expire() == []
    bench.clock.move(1)
    (again,) = await bench.engine.expire()
    assert (again.task.route, again.task.attempt, again.workflow_id) == (Route.AGENTKIT, 1, "w")
    assert again.endpoint.url == "http://127.0.0.1:9/task"
    bench.clock.move(30)
    assert await bench.engine.expire() == []
    task = await bench.task(session_id)
    assert (task.state, task.spent) == ("ready", 1)
    assert await bench.engine.next_ready_at() == bench.clock.now + SECOND


async def test_without_agentkit_there_is_no_other_route() -> None:
    async with benched(agentkit=False) as bench:
        await bench.agent()
        await bench.say("idle")
        session_id = await bench.start(one("a"))
        await bench.claim()
        bench.clock.move(30)
        assert await bench.engine.expire() == []
        assert (await bench.task(session_id)).state == "ready"


async def test_what_may_never_have_been_sent_is_sent_after_a_restart_by_the_only_way() -> None:
    async with benched(agentkit=False) as bench:
        await bench.agent()
        await bench.say("idle")
        session_id = await bench.start(one("a", retry={"maximumAttempts": 1}))
        await bench.claim()
        bench.clock.move(1)
        bench.engine = bench.engine_anew()
        bench.clock.move(30)
        (again,) = await bench.engine.expire()
        assert (again.task.route, again.task.attempt) == (Route.DIRECT, 1)
        bench.clock.move(30)
        assert await bench.engine.expire() == []
        assert (await bench.task(session_id)).state == "failed"


@pytest.mark.parametrize("call", ["claim", "due"])
async def test_what_was_given_out_as_the_database_went_away_is_sent_by_the_only_way(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A claim may be kept whose giver is never told of it, at this replica or at another."""
    async with benched(agentkit=False) as bench:
        await bench.agent()
        await bench.say("idle")
        session_id = await bench.start(one("a", retry={"maximumAttempts": 1}))
        kept = getattr(bench.store, call)

        async def cut_off(**asked: Any) -> None:
            await kept(**asked)
            bench.clock.move(1)
            raise StoreUnavailable("The connection was lost.")

        if call == "due":
            await bench.claim()
        with monkeypatch.context() as patch:
            patch.setattr(bench.store, call, cut_off)
            asked = bench.engine.claim(1) if call == "claim" else bench.engine.expire()
            with pytest.raises(StoreUnavailable):
                await asked
        bench.clock.move(30)
        (again,) = await bench.engine.expire()
        assert (again.task.route, again.task.attempt, again.task.spent) == (Route.DIRECT, 1, 0)
        bench.clock.move(30)
        assert await bench.engine.expire() == []
        assert (await bench.task(session_id)).state == "failed"


async def test_agents_are_given_time_to_say_what_they_did_in_an_outage(bench: Bench) -> None:
    session_id = await bench.start(one("a"))
    claim = await bench.claim()
    await bench.say("active", claim)
    bench.clock.move(3000)
    bench.since = bench.clock.now
    await bench.engine.expire()
    assert (await bench.task(session_id)).state == "running"
    bench.clock.move(15)
    await bench.engine.expire()
    assert (await bench.task(session_id)).state == "ready"


async def test_agents_are_given_time_to_say_what_they_did_in_a_short_restart(bench: Bench) -> None:
    session_id = await bench.start(one("a"))
    await bench.claim()
    bench.clock.move(29)
    bench.engine = bench.engine_anew()
    bench.clock.move(14)
    assert await bench.engine.expire() == []
    assert (await bench.task(session_id)).state == "dispatched"
    bench.clock.move(1)
    (again,) = await bench.engine.expire()
    assert again.task.attempt == 1


async def test_a_clock_that_was_ahead_as_ops_core_began_excuses_nobody_for_long() -> None:
    async with benched(agentkit=False) as bench:
        bench.clock.move(86_400)
        bench.engine = bench.engine_anew()
        bench.clock.move(-86_400)
        await bench.engine.expire()
        await bench.agent()
        await bench.say("idle")
        session_id = await bench.start(one("a"))
        await bench.claim()
        bench.clock.move(30)
        assert await bench.engine.expire() == []
        assert (await bench.task(session_id)).state == "ready"


async def test_nothing_expires_before_anybody_has_listened(bench: Bench) -> None:
    session_id = await bench.start(one("a"))
    await bench.claim()
    bench.clock.move(31)
    engine = bench.engine_anew()
    engine._mark = lambda: None
    assert await engine.expire() == ()
    assert (await bench.task(session_id)).state == "dispatched"


async def test_the_task_of_a_lost_instance_goes_to_another(bench: Bench) -> None:
    for instance_id in ("i", "j"):
        await bench.say("idle", instance_id=instance_id, sequence=1)
    await bench.core.heartbeat(
        "a", Heartbeat(instance_id="i", state="idle", sequence=1, interval_seconds=10)
    )
    await bench.start(one("a", agentId="a"))
    claims = await bench.engine.claim(10)
    first = claims[0].task
    await bench.say("active", first, instance_id="i", sequence=2)
    assert (await bench.engine.task(first.task_id)).instance_id == "i"
    bench.clock.move(31)
    assert bench.mark() == Watermark(bench.since, bench.clock.now)
    await bench.engine.expire()
    assert (await bench.engine.task(first.task_id)).error["type"] == "InstanceLost"
    assert await bench.engine.stopped() == {("a", "i"): [f"{first.task_id}.1"]}
    bench.clock.move(2)
    second = (await bench.engine.claim(10))[0].task
    assert (second.task_id, second.attempt, second.instance_id) == (first.task_id, 2, "j")
