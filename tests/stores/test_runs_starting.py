"""Runs: kept whole, started once, let go of when they are old."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opscore_middleware.core.clock import SECOND, from_micros
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.tasks import Route, Task, TaskState
from opscore_middleware.core.sessions import Session, SessionState
from opscore_middleware.errors import (
    AgentDeregistered,
    AgentNotFound,
    SessionExists,
    WorkflowNotFound,
)
from tests.stores.run_support import DEFINITION, WORKFLOW, Everything, given, idle, runs, task
from tests.stores.support import NOW, add

pytestmark = pytest.mark.asyncio

FULL = task(
    "full",
    node="n",
    item=3,
    state=TaskState.FAILED,
    priority=-5,
    pinned="b",
    capability="c",
    parameters='{"ü":1}',
    result="[1]",
    error='{"type":"E"}',
    attempt=2,
    spent=1,
    deadline_at=NOW + 1,
    close_by=NOW + 2,
    agent_id="b",
    instance_id="",
    route=Route.DIRECT,
    rerouted=True,
    inferred=True,
    progress=0.5,
    progress_message="half",
    dispatched_at=NOW + 3,
    started_at=NOW + 4,
    ended_at=NOW + 5,
    stopped=True,
)


async def listed(store: Everything, **wanted: Any) -> list[str]:
    query = {"session_id": None, "state": None, "agent_id": None, "capability": None, **wanted}
    tasks = await store.list_tasks(**{"after": None, "limit": 100, **query})
    return [found.task_id for found in tasks]


async def test_a_run_is_kept_as_it_was_started_and_started_once(running: Everything) -> None:
    said = {"initial_payload": '{"p":1}', "traceparent": "00-1-2-01"}
    new = runs(FULL, task("z"), task("a"), **said)
    assert await given(running, *new.tasks.values(), **said) == new
    again = await running.start_run(runs(task("other")))
    assert again == (new, False)
    kept = await running.get_run("s")
    assert kept == new
    assert kept is not None
    assert list(kept.tasks) == ["full", "z", "a"]
    assert await running.get_task("full") == FULL
    assert await running.get_task("other") is None
    assert await running.get_run("other") is None


async def test_what_is_read_has_the_types_that_were_written(running: Everything) -> None:
    await given(running, FULL)
    kept = await running.get_task("full")
    assert kept is not None
    assert [type(value) for value in kept] == [type(value) for value in FULL]


async def test_a_run_is_a_session_too(running: Everything) -> None:
    await given(running, task())
    session = await running.get_session("s")
    assert session is not None
    assert (session.agent_id, session.workflow_id, session.state) == ("a", "w", "started")
    listing = await running.list_sessions(agent_id="a", state=None, after=None, limit=9)
    assert [found.session_id for found in listing] == ["s"]


async def test_runs_need_an_agent_that_can_report_and_a_version_that_is_kept(
    running: Everything,
) -> None:
    await add(running, "gone")
    await running.deregister("gone", now=NOW)
    await add(running)
    with pytest.raises(WorkflowNotFound):
        await running.start_run(runs(task()))
    await running.save_workflow("w", DEFINITION, now=NOW)
    with pytest.raises(AgentNotFound):
        await running.start_run(runs(task(), agent_id="nobody"))
    with pytest.raises(AgentDeregistered):
        await running.start_run(runs(task(), agent_id="gone"))
    with pytest.raises(WorkflowNotFound):
        await running.start_run(runs(task(), workflow=WORKFLOW._replace(version=2)))
    assert await running.get_run("s") is None


async def test_a_session_that_runs_no_workflow_is_no_run(running: Everything) -> None:
    await add(running)
    moment = from_micros(NOW)
    await running.start_session(
        Session(
            session_id="s",
            agent_id="a",
            state=SessionState.STARTED,
            created_at=moment,
            updated_at=moment,
        )
    )
    await running.save_workflow("w", DEFINITION, now=NOW)
    with pytest.raises(SessionExists):
        await running.start_run(runs(task()))
    assert await running.get_run("s") is None


async def test_one_session_started_by_many_at_once_is_one_run(running: Everything) -> None:
    await given(running, task("before"), session_id="before")
    started = await asyncio.gather(*(running.start_run(runs(task(f"t{n}"))) for n in range(20)))
    assert sum(is_new for _, is_new in started) == 1
    (kept,) = {tuple(run.tasks) for run, _ in started}
    run = await running.get_run("s")
    assert isinstance(run, Run)
    assert tuple(run.tasks) == kept


async def test_tasks_are_listed_newest_first_and_by_what_is_wanted(running: Everything) -> None:
    def made(n: int, **fields: Any) -> Task:
        return task(f"t{n}", created_at=NOW + n // 2, **fields)

    await given(running, made(0), made(1, pinned="b"), made(2, agent_id="b", capability="d"))
    await given(running, made(3, state=TaskState.FAILED), session_id="other")
    assert await listed(running) == ["t3", "t2", "t1", "t0"]
    assert await listed(running, limit=1, after=(NOW + 1, "t3")) == ["t2"]
    assert await listed(running, after=(NOW + 1, "t2"), limit=1) == ["t1"]
    assert await listed(running, session_id="other") == ["t3"]
    assert await listed(running, state=TaskState.FAILED) == ["t3"]
    assert await listed(running, agent_id="b") == ["t2", "t1"]
    assert await listed(running, capability="c", session_id="s") == ["t0"]
    assert await listed(running, session_id="nobody") == []


async def test_the_greatest_session_with_a_prefix_is_found(running: Everything) -> None:
    for session_id in ("w@1", "w@3", "w@2", "w", "wa", "v@9", "W@9", "w@3é"):
        await given(running, task(f"of-{session_id}"), session_id=session_id)
    assert await running.latest_session("w@") == "w@3é"
    assert await running.latest_session("w@2") == "w@2"
    assert await running.latest_session("x") is None


async def test_old_sessions_go_with_their_tasks_the_oldest_first(running: Everything) -> None:
    for n in range(4):
        await given(
            running,
            task(f"t{n}", state=TaskState.COMPLETED, stopped=True),
            session_id=f"s{n}",
            state=SessionState.COMPLETED,
            ended_at=NOW - n * SECOND,
        )
    await given(running, task("alive"), session_id="alive", created_at=NOW - 99 * SECOND)
    assert await running.prune_runs(before=NOW, limit=2) == 2
    assert await listed(running, limit=9) == sorted(["t0", "t1", "alive"], reverse=True)
    assert await running.prune_runs(before=NOW, limit=2) == 1
    assert await running.prune_runs(before=NOW, limit=2) == 0
    assert await running.get_session("s1") is None
    assert await running.get_run("s0") is not None
    assert await running.get_workflow("w") is not None


async def test_of_those_that_a_schedule_started_the_latest_stays(running: Everything) -> None:
    for n, session_id in enumerate(("w@2026-01-01", "w@2026-01-08", "w", "v@2026-01-09")):
        await given(
            running,
            task(f"t{n}", state=TaskState.COMPLETED),
            session_id=session_id,
            state=SessionState.COMPLETED,
            ended_at=NOW - SECOND,
        )
    assert await running.prune_runs(before=NOW, limit=9) == 3
    assert await running.latest_session("w@") == "w@2026-01-08"
    await given(running, task("next"), session_id="w@2026-01-15")
    assert await running.prune_runs(before=NOW, limit=9) == 1
    assert await listed(running) == ["next"]


async def test_unfinished_tasks_are_counted_by_state(running: Everything) -> None:
    waiting = [task(f"w{n}", state=TaskState.WAITING) for n in range(3)]
    await given(running, task(), FULL, *waiting, task("x", state=TaskState.RUNNING))
    counted = await running.unfinished()
    assert {state: count for state, count in counted.items() if count} == {
        TaskState.READY: 1,
        TaskState.WAITING: 3,
        TaskState.RUNNING: 1,
    }


async def test_a_claim_that_is_asked_for_once_a_start_is_placed_finds_its_task(
    running: Everything,
) -> None:
    await idle(running)
    await running.save_workflow("w", DEFINITION, now=NOW)
    placed = asyncio.Event()
    starting = asyncio.create_task(running.start_run(runs(task()), placed=placed.set))
    await placed.wait()
    (claim,) = await running.claim(limit=5, mark=None, now=NOW)
    assert claim.task.task_id == "t"
    assert (await starting)[1]
