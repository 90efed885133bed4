"""Claims: ready tasks to available instances, in the order that was promised."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.models import Registration
from opscore_middleware.core.records import StoredHeartbeat
from opscore_middleware.core.runs.records import Step
from opscore_middleware.core.runs.tasks import Route, TaskState
from opscore_middleware.core.sessions import Session, SessionState
from tests.stores.run_support import (
    DEFINITION,
    Everything,
    advanced,
    claimed,
    ends,
    given,
    idle,
    sets,
    task,
)
from tests.stores.support import NOW, add, said

pytestmark = pytest.mark.asyncio

A = ("a", "i")
B = ("b", "i")


def becomes(state: SessionState) -> Step:
    """The step that changes a run's state."""
    return lambda run: run._replace(state=state)


def changed_to(state: SessionState, session: Session) -> Session:
    return session.model_copy(update={"state": state})


async def test_an_agent_that_nobody_can_reach_gets_no_task(running: Everything) -> None:
    await add(running, "a", capabilities=["c"])
    await running.apply_reports([said("idle", agent_id="a", instance_id="i")])
    await given(running, task())
    assert await running.claim(limit=5, mark=None, now=NOW) == []
    await running.prefer_route("a", Route.AGENTKIT)
    assert len(await running.claim(limit=5, mark=None, now=NOW)) == 1


async def test_an_idle_instance_gets_the_task(running: Everything) -> None:
    await idle(running)
    resting = task(route=Route.DIRECT, rerouted=True, stopped=True, attempt=2)
    await given(running, resting, traceparent="00-1-2-01")
    (claim,) = await running.claim(limit=5, mark=None, now=NOW + 7)
    expected = task(
        state=TaskState.DISPATCHED,
        attempt=3,
        agent_id="a",
        instance_id="i",
        dispatched_at=NOW + 7,
        deadline_at=NOW + 7 + 30 * SECOND,
    )
    assert claim.task == expected
    assert (claim.workflow_id, claim.traceparent) == ("w", "00-1-2-01")
    assert await running.get_task("t") == expected
    run = await running.get_run("s")
    assert run is not None
    assert (run.state, run.tasks["t"]) == (SessionState.RUNNING, expected)


async def test_a_task_that_must_close_earlier_has_that_deadline(running: Everything) -> None:
    await idle(running)
    await given(running, task(close_by=NOW + SECOND))
    (claim,) = await running.claim(limit=1, mark=None, now=NOW)
    assert claim.task.deadline_at == NOW + SECOND


@pytest.mark.parametrize("state", ["active", "initializing", "draining", "finished", "paused"])
async def test_only_idle_instances_get_tasks(running: Everything, state: str) -> None:
    await idle(running, state=state)
    await given(running, task())
    assert await claimed(running) == {}


async def test_an_instance_after_an_error_gets_tasks_when_it_can_work(running: Everything) -> None:
    async def fails(agent_id: str, **fields: Any) -> None:
        await add(running, agent_id, contact_endpoint="http://agent/task")
        await running.apply_reports([said("error", agent_id=agent_id, **fields)])
        await given(running, task(agent_id, pinned=agent_id), session_id=agent_id)

    await fails("goes-on", sequence=1)
    await fails("never-began", sequence=1, details='{"error":{"phase":"startup"}}')
    await fails("says-no-more")
    await add(running)
    assert set(await claimed(running)) == {"goes-on"}
    assert set(await claimed(running, now=NOW + 60 * SECOND)) == {"says-no-more"}


async def test_who_is_late_lost_or_deregistered_gets_nothing(running: Everything) -> None:
    for agent_id in ("well", "late", "gone"):
        await idle(running, agent_id)
        heard = NOW + (60 * SECOND if agent_id == "well" else 40 * SECOND)
        beat = StoredHeartbeat(agent_id, "i", heard, None, 10 * SECOND, None, None)
        await running.heartbeat(beat)
        await given(running, task(agent_id, pinned=agent_id), session_id=agent_id)
    await running.deregister("gone", now=NOW)
    assert set(await claimed(running, mark=Watermark(NOW, NOW + 60 * SECOND))) == {"well"}


async def test_an_instance_that_is_let_go_of_gets_nothing(running: Everything) -> None:
    await idle(running, "a", "old", "new")
    await running.heartbeat(StoredHeartbeat("a", "old", NOW, None, SECOND, None, None))
    later = NOW + 100 * SECOND
    await running.apply_reports([said(instance_id="new", at=100 * SECOND)])
    mark = Watermark(NOW, later)
    assert await running.forget_instances(mark=mark, before=later, now=later) == 1
    await given(running, task("t"), task("u"))
    assert await claimed(running, mark=None, now=later) == {"t": ("a", "new")}


async def test_reports_without_an_instance_are_a_slot_until_one_reports(
    running: Everything,
) -> None:
    await idle(running, "a", None)
    await idle(running, "b", None, "i")
    await given(running, *(task(f"{agent}{n}", pinned=agent) for agent in "ab" for n in range(2)))
    assert await claimed(running) == {"a0": ("a", ""), "b0": B}


async def test_a_task_goes_to_an_agent_with_its_capability(running: Everything) -> None:
    await idle(running, "a", capabilities=("c",))
    await idle(running, "b", capabilities=("sum", "écho", "écho"))
    tasks = [task("t", capability="écho"), task("u", capability="none"), task("v", capability="C")]
    await given(running, *tasks)
    assert await claimed(running) == {"t": B}


async def test_a_capability_is_an_agent_s_until_it_registers_without(running: Everything) -> None:
    await idle(running, capabilities=("c", "d"))
    await given(running, task("t"), task("u", capability="d"))
    await add(running, capabilities=["d", "e"])
    assert await claimed(running) == {"u": A}


async def test_a_pinned_task_waits_for_its_agent(running: Everything) -> None:
    await idle(running, "a")
    await idle(running, "b", state="active")
    await given(running, task(pinned="b", capability="c"))
    assert await claimed(running) == {}
    await running.apply_reports([said(agent_id="b", at=1)])
    assert await claimed(running) == {"t": B}


async def test_a_slot_has_one_task_and_each_instance_is_one(running: Everything) -> None:
    await idle(running, "a", "i", "j")
    await given(running, *(task(f"t{n}") for n in range(3)))
    first = await claimed(running)
    assert sorted(first.values()) == [("a", "i"), ("a", "j")]
    assert await claimed(running) == {}
    await advanced(running, ends("t0"), task_id="t0")
    assert await claimed(running) == {"t2": first["t0"]}


async def test_no_more_are_claimed_than_asked_for(running: Everything) -> None:
    await idle(running, "a", *(f"i{n}" for n in range(5)))
    await given(running, *(task(f"t{n}") for n in range(5)))
    assert list(await claimed(running, limit=2)) == ["t0", "t1"]
    assert list(await claimed(running, limit=2)) == ["t2", "t3"]


async def test_a_higher_priority_goes_first_then_what_was_ready_then_what_was_made(
    running: Everything,
) -> None:
    await idle(running)
    await given(
        running,
        task("late", ready_at=NOW - 1),
        task("made-later", ready_at=NOW - 2, created_at=NOW + 1),
        task("early", ready_at=NOW - 2),
        task("urgent", priority=2),
        task("future", priority=9, ready_at=NOW + 1),
        task("low", priority=-1, ready_at=NOW - 9),
    )
    order: list[str] = []
    while got := await claimed(running):
        order += got
        await advanced(running, ends(order[-1]), task_id=order[-1])
    assert order == ["urgent", "early", "made-later", "late", "low"]


async def test_the_session_s_own_agent_goes_first_then_who_waited_longest(
    running: Everything,
) -> None:
    for agent_id in ("x", "own", "y"):
        await idle(running, agent_id)
    given_to: list[str | None] = []
    for n in range(6):
        own = "own" if n in {0, 4} else "a"
        await given(running, task(f"t{n}"), session_id=f"s{n}", agent_id=own)
        ((whom, _),) = (await claimed(running, now=NOW + n)).values()
        given_to.append(whom)
        await advanced(running, ends(f"t{n}"), task_id=f"t{n}")
    assert given_to[0] == given_to[4] == "own"
    assert set(given_to[1:3]) == {"x", "y"}
    assert (given_to[3], given_to[5]) == ("own", given_to[1])


async def test_own_agent_without_the_capability_is_passed_over(running: Everything) -> None:
    await idle(running, "a", capabilities=("other",))
    await idle(running, "b")
    await given(running, task())
    assert await claimed(running) == {"t": B}


async def test_tasks_of_sessions_that_do_not_run_are_left_alone(running: Everything) -> None:
    await idle(running)
    states = (SessionState.PAUSED, SessionState.CANCELLED, SessionState.FAILED)
    for state in states:
        await given(running, task(state.value), session_id=state.value)
        await advanced(running, becomes(state), task_id=state.value)
    assert await claimed(running) == {}
    assert await running.next_ready_at(after=0) is None
    await advanced(running, becomes(SessionState.RUNNING), task_id="paused")
    assert await running.next_ready_at(after=0) == NOW
    assert set(await claimed(running)) == {"paused"}


async def test_a_session_paused_by_hand_is_left_alone_too(running: Everything) -> None:
    await idle(running)
    await given(running, task())
    await running.update_session("s", partial(changed_to, SessionState.PAUSED))
    assert await claimed(running) == {}
    await running.update_session("s", partial(changed_to, SessionState.RUNNING))
    assert await claimed(running) == {"t": A}


async def test_what_waits_or_has_ended_is_not_claimed(running: Everything) -> None:
    await idle(running)
    await given(running, *(task(s.value, state=s) for s in TaskState if s != TaskState.READY))
    assert await claimed(running) == {}


async def test_a_retried_task_is_a_new_attempt(running: Everything) -> None:
    await idle(running)
    await given(running, task())
    await claimed(running)
    await advanced(running, sets(state=TaskState.READY, ready_at=NOW + 5, stopped=True))
    assert await claimed(running) == {}
    (claim,) = await running.claim(limit=1, mark=None, now=NOW + 5)
    assert (claim.task.attempt, claim.task.stopped) == (2, False)


async def test_the_next_time_is_that_of_a_task_that_is_not_ready_yet(running: Everything) -> None:
    await given(
        running,
        task("now"),
        task("later", ready_at=NOW + 9),
        task("soon", ready_at=NOW + 3, priority=-1),
        task("pinned", pinned="a", ready_at=NOW + 5),
        task("never", state=TaskState.WAITING, ready_at=NOW + 1),
    )
    assert await running.next_ready_at(after=NOW - 1) == NOW
    assert await running.next_ready_at(after=NOW) == NOW + 3
    assert await running.next_ready_at(after=NOW + 3) == NOW + 5
    assert await running.next_ready_at(after=NOW + 9) is None


async def test_claims_at_once_give_each_task_and_each_slot_out_once(running: Everything) -> None:
    await idle(running, "a", *(f"i{n}" for n in range(30)))
    for n in range(10):
        await given(running, *(task(f"t{n}-{k}") for k in range(5)), session_id=f"s{n}")
    claims = await asyncio.gather(*(claimed(running, limit=4) for _ in range(20)))
    tasks = [task_id for got in claims for task_id in got]
    slots = [slot for got in claims for slot in got.values()]
    assert len(tasks) == len(set(tasks)) == 30
    assert len(slots) == len(set(slots)) == 30


async def test_a_claim_says_where_it_goes(running: Everything) -> None:
    async def registered(**fields: Any) -> None:
        registration = Registration(agent_name="a", agent_id="a", capabilities=["c"], **fields)
        await running.register(registration, new_id="unused", now=NOW)

    await registered(contact_endpoint="http://agent/")
    await registered(instance_id="own", contact_endpoint="http://own/")
    await running.apply_reports([said(instance_id="own"), said(instance_id="shared")])
    await given(running, task("t"), task("u"))
    claims = await running.claim(limit=2, mark=None, now=NOW)
    where = {claim.endpoint.instance_id: claim.endpoint for claim in claims}
    assert where["own"] == ("a", "own", "http://own/", None)
    assert where["shared"] == ("a", "shared", "http://agent/", None)
    assert await running.endpoint("a", "own") == where["own"]
    assert await running.endpoint("a", "shared") == where["shared"]
    assert await running.endpoint("a", "unknown") is None
    assert await running.endpoint("unknown", "own") is None


async def test_the_route_that_worked_last_is_remembered(running: Everything) -> None:
    async def route(by: Route | None = None) -> Route | None:
        registration = Registration(agent_name="a", agent_id="a", capabilities=["c"])
        await running.register(registration, new_id="unused", now=NOW, route=by)
        endpoint = await running.endpoint("a", "i")
        assert endpoint is not None
        return endpoint.preferred

    await idle(running)
    assert await route() is None
    assert await route(Route.AGENTKIT) is Route.AGENTKIT
    assert await route() is Route.AGENTKIT
    await running.prefer_route("a", Route.DIRECT)
    assert await route() is Route.DIRECT
    await running.prefer_route("unknown", Route.DIRECT)
    await given(running, task(route=Route.AGENTKIT))
    (claim,) = await running.claim(limit=1, mark=None, now=NOW)
    assert claim.task.route is claim.endpoint.preferred is Route.DIRECT


async def test_candidates_are_all_who_may_have_a_task(running: Everything) -> None:
    await idle(running, "a", state="active")
    await idle(running, "b", capabilities=("c", "d"))
    await idle(running, "gone")
    await running.deregister("gone", now=NOW)
    assert sorted(await running.candidates(pinned=None, capability="c")) == ["a", "b"]
    assert list(await running.candidates(pinned="b", capability="c")) == ["b"]
    assert list(await running.candidates(pinned="gone", capability=None)) == []
    assert list(await running.candidates(pinned="unknown", capability=None)) == []
    assert list(await running.candidates(pinned=None, capability="none")) == []


async def test_a_pinned_task_of_an_agent_that_registers_later_is_given_to_it(
    running: Everything,
) -> None:
    await add(running)
    await running.save_workflow("w", DEFINITION, now=NOW)
    await given(running, task(pinned="b"))
    await idle(running, "b")
    assert await claimed(running) == {"t": B}
