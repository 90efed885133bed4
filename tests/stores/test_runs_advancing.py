"""Steps: each with nobody else's in between, each alone in what it gets wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opscore_middleware.core.runs.records import Advance, Run, Step
from opscore_middleware.core.runs.tasks import Route, TaskState
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.errors import TaskEnded
from tests.stores.run_support import Everything, advanced, ends, given, sets, task
from tests.stores.support import NOW

pytestmark = pytest.mark.asyncio


def adds(*task_ids: str) -> Step:
    return lambda run: run._replace(
        tasks={**run.tasks, **{t: task(t, session_id=run.session_id) for t in task_ids}}
    )


def counts(run: Run) -> Run:
    return sets(spent=run.tasks["t"].spent + 1)(run)


def refuses(run: Run) -> Run:
    raise TaskEnded("It is over.")


def breaks(run: Run) -> Run:
    raise ZeroDivisionError


async def test_a_step_is_kept_whole(running: Everything) -> None:
    await given(running, task("t"), task("u"))

    def step(run: Run) -> Run:
        run = ends("t")(adds("new", "newer")(run))
        return run._replace(
            state=SessionState.COMPLETED,
            result='{"t":1}',
            error='{"e":2}',
            updated_at=NOW + 5,
            ended_at=NOW + 5,
        )

    after = await advanced(running, step)
    assert (after.state, after.result, after.error) == ("completed", '{"t":1}', '{"e":2}')
    assert (after.updated_at, after.ended_at) == (NOW + 5, NOW + 5)
    assert list(after.tasks) == ["t", "u", "new", "newer"]
    assert after.tasks["t"].state is TaskState.COMPLETED
    assert await running.get_run("s") == after
    assert await running.get_task("new") == task("new")
    session = await running.get_session("s")
    assert session is not None
    assert (session.state, session.result) == (SessionState.COMPLETED, {"t": 1})


async def test_a_run_is_named_by_its_session_or_by_one_of_its_tasks(running: Everything) -> None:
    await given(running, task("t"))
    answers = await running.advance(
        [
            Advance(counts, session_id="s"),
            Advance(counts, task_id="t"),
            Advance(counts, session_id="nobody"),
            Advance(counts, task_id="nobody"),
        ],
        now=NOW,
    )
    spent = [answer.tasks["t"].spent if isinstance(answer, Run) else answer for answer in answers]
    assert spent == [1, 2, None, None]
    assert await running.advance([], now=NOW) == []


async def test_a_step_that_changes_nothing_answers_with_the_run_as_it_is(
    running: Everything,
) -> None:
    before = await given(running, task("t"))
    assert await advanced(running, lambda run: run) == before
    assert await advanced(running, sets()) == before
    assert await advanced(running, sets(name=before.tasks["t"].name)) == before
    assert await running.get_run("s") == before


async def test_a_step_that_raises_changes_nothing_and_stands_alone(running: Everything) -> None:
    await given(running, task("t"))
    first, refused, broken, second = await running.advance(
        [Advance(step, session_id="s") for step in (counts, refuses, breaks, counts)], now=NOW
    )
    assert isinstance(first, Run)
    assert isinstance(refused, TaskEnded)
    assert isinstance(broken, ZeroDivisionError)
    assert isinstance(second, Run)
    assert (first.tasks["t"].spent, second.tasks["t"].spent) == (1, 2)
    kept = await running.get_task("t")
    assert kept is not None
    assert kept.spent == 2


async def test_callers_at_once_each_see_the_change_before(running: Everything) -> None:
    await given(running, task("t"))
    await given(running, task("other"), session_id="o")
    steps = [counts, refuses, lambda run: run]
    answers = await asyncio.gather(
        *(running.advance([Advance(steps[n % 3], session_id="s")], now=NOW) for n in range(60)),
        *(running.advance([Advance(ends("other"), task_id="other")], now=NOW) for _ in range(5)),
    )
    spent = [
        run.tasks["t"].spent
        for (run,) in answers[:60:3]
        if isinstance(run, Run)  # those of `counts`
    ]
    assert sorted(spent) == list(range(1, 21))
    kept = await running.get_task("t")
    assert kept is not None
    assert kept.spent == 20
    other = await running.get_task("other")
    assert other is not None
    assert other.state is TaskState.COMPLETED


async def test_a_task_may_become_whatever_a_task_can_be(running: Everything) -> None:
    await given(running, task("t"), task("u"))
    for state in (*TaskState, TaskState.READY):
        wanted = task(
            "t",
            state=state,
            priority=3,
            parameters='{"p":1}',
            result="null",
            error="{}",
            attempt=7,
            spent=5,
            ready_at=None if state == TaskState.WAITING else NOW + 1,
            deadline_at=NOW + 2,
            close_by=NOW + 3,
            route=Route.AGENTKIT,
            rerouted=state == TaskState.RUNNING,
            inferred=state == TaskState.COMPLETED,
            progress=0.25,
            progress_message="ü",
            dispatched_at=NOW + 4,
            started_at=NOW + 5,
            ended_at=NOW + 6,
        )
        fields = wanted._asdict()
        del fields["task_id"]
        await advanced(running, sets("t", **fields))
        assert await running.get_task("t") == wanted
    assert await running.get_task("u") == task("u")


async def test_many_runs_are_advanced_in_one_go(running: Everything) -> None:
    for n in range(30):
        await given(running, task(f"t{n}"), session_id=f"s{n}")
    answers = await running.advance(
        [Advance(ends(f"t{n}"), task_id=f"t{n}") for n in range(30)], now=NOW
    )
    assert [run.session_id for run in answers if isinstance(run, Run)] == [
        f"s{n}" for n in range(30)
    ]
    tasks = [await running.get_task(f"t{n}") for n in range(30)]
    assert all(found is not None and found.state is TaskState.COMPLETED for found in tasks)


async def test_a_run_of_thousands_of_tasks_advances(running: Everything) -> None:
    await given(running, task("t"))
    names = [f"item{n}" for n in range(3000)]
    await advanced(running, adds(*names))

    def all_end(run: Run) -> Run:
        tasks = {name: t._replace(state=TaskState.COMPLETED) for name, t in run.tasks.items()}
        return run._replace(tasks=tasks)

    after = await advanced(running, all_end)
    assert list(after.tasks) == ["t", *names]
    kept = await running.get_run("s")
    assert kept == after


async def test_of_many_runs_that_end_at_once_each_ends_in_its_own_way(running: Everything) -> None:
    numbers = range(515)
    await given(running, task("t0"), session_id="s0")
    starts = [given(running, task(f"t{n}"), session_id=f"s{n}") for n in numbers[1:]]
    await asyncio.gather(*starts)

    def ending(number: int) -> Step:
        state = SessionState.FAILED if number % 2 else SessionState.COMPLETED
        return lambda run: ends(f"t{number}")(run)._replace(
            state=state, result=f'{{"t":{number}}}', updated_at=NOW + number, ended_at=NOW + number
        )

    steps = [Advance(ending(number), session_id=f"s{number}") for number in numbers]
    ended = await running.advance(steps, now=NOW)

    assert [run.ended_at for run in ended if isinstance(run, Run)] == [NOW + n for n in numbers]
    assert [await running.get_run(f"s{number}") for number in numbers] == ended


async def test_an_attempt_that_stays_keeps_its_slot_while_another_swaps(
    running: Everything,
) -> None:
    held: dict[str, Any] = {"state": TaskState.RUNNING, "agent_id": "a", "attempt": 1}
    for number in range(3):
        one = task(f"t{number}", instance_id=f"i{number}", **held)
        await given(running, one, session_id=f"s{number}")

    await running.advance(
        [
            Advance(sets("t0", instance_id="i1"), task_id="t0"),
            Advance(sets("t2", progress=0.5), task_id="t2"),
        ],
        now=NOW,
    )

    kept = [await running.get_task(f"t{number}") for number in range(3)]
    assert [one.instance_id for one in kept if one is not None] == ["i1", "i0", "i2"]
