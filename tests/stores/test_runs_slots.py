"""Open attempts: where they are, when somebody has to look at them, and who is told to stop."""

from __future__ import annotations

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.records import StoredHeartbeat
from opscore_middleware.core.runs.records import Advance, Run, Stopped
from opscore_middleware.core.runs.tasks import TaskState
from tests.stores.run_support import (
    Everything,
    advanced,
    claimed,
    ends,
    given,
    idle,
    sets,
    started,
    task,
)
from tests.stores.support import NOW, said

pytestmark = pytest.mark.asyncio


async def where(store: Everything, *agents: str) -> dict[str, str | None]:
    """The instances that open tasks of these agents are bound to."""
    return {t.task_id: t.instance_id for t in await store.open_tasks(agents or ("a",))}


async def two_at_work(store: Everything, *, together: bool) -> None:
    """Give `t` to instance `i` and `u` to `j`, of one run or of two."""
    await idle(store, "a", "i", "j")
    if together:
        await given(store, task("t"), task("u"))
    else:
        await given(store, task("t"))
        await given(store, task("u"), session_id="other")
    await claimed(store)
    if (await where(store))["t"] == "j":
        await advanced(store, started("t", instance_id="i"))
        await advanced(store, sets("t", state=TaskState.DISPATCHED))
    assert await where(store) == {"t": "i", "u": "j"}


@pytest.mark.parametrize("together", [True, False])
async def test_an_attempt_that_begins_in_another_s_slot_swaps_with_it(
    running: Everything, together: bool
) -> None:
    await two_at_work(running, together=together)
    after = await advanced(running, started("t", instance_id="j"))
    assert after.tasks["t"].instance_id == "j"
    assert await where(running) == {"t": "j", "u": "i"}
    other = await running.get_task("u")
    assert other is not None
    assert other.state is TaskState.DISPATCHED


@pytest.mark.parametrize("together", [True, False])
async def test_both_beginning_in_each_other_s_slot_end_there(
    running: Everything, together: bool
) -> None:
    await two_at_work(running, together=together)
    steps = {"t": started("t", instance_id="j"), "u": started("u", instance_id="i")}
    await running.advance([Advance(step, task_id=name) for name, step in steps.items()], now=NOW)
    assert await where(running) == {"t": "j", "u": "i"}


async def test_a_slot_that_is_free_is_just_taken(running: Everything) -> None:
    await idle(running, "a", "i", "j")
    await given(running, task())
    ((_, bound),) = (await claimed(running)).values()
    (other,) = {"i", "j"} - {bound}
    await advanced(running, started("t", instance_id=other))
    assert await where(running) == {"t": other}
    await given(running, task("u"), session_id="second")
    assert await claimed(running) == {"u": ("a", bound)}


async def test_a_slot_that_is_left_in_the_same_step_is_taken(running: Everything) -> None:
    await two_at_work(running, together=False)
    ended, moved = await running.advance(
        [
            Advance(ends("u"), task_id="u"),
            Advance(started("t", instance_id="j"), task_id="t"),
        ],
        now=NOW,
    )
    assert not isinstance(ended, Exception)
    assert not isinstance(moved, Exception)
    assert await where(running) == {"t": "j"}


async def test_open_tasks_are_those_that_are_out(running: Everything) -> None:
    await idle(running, "a", "i")
    await idle(running, "b", "i")
    await given(
        running,
        task("t", pinned="a"),
        task("u", pinned="b"),
        task("items", state=TaskState.RUNNING),
        task("rest", pinned="a"),
    )
    await claimed(running)
    assert [t.task_id for t in await running.open_tasks(["a"])] == ["t"]
    assert {t.task_id for t in await running.open_tasks(["a", "b", "unknown"])} == {"t", "u"}
    assert await running.open_tasks([]) == []
    await advanced(running, ends("t"))
    assert await running.open_tasks(["a"]) == []


async def test_what_is_due_comes_the_earliest_first(running: Everything) -> None:
    await given(
        running,
        task("second", state=TaskState.RUNNING, deadline_at=NOW + 2),
        task("first", state=TaskState.WAITING, deadline_at=NOW + 1),
        task("third", deadline_at=NOW + 3),
        task("over", state=TaskState.COMPLETED, deadline_at=NOW),
        task("none"),
    )

    async def due(at: int, limit: int = 9) -> list[str]:
        return [t.task_id for t in await running.due(now=NOW + at, limit=limit)]

    assert await due(0) == []
    assert await due(2) == ["first", "second"]
    assert await due(9) == ["first", "second", "third"]
    assert await due(9, limit=1) == ["first"]


async def test_tasks_of_instances_that_are_gone_are_found(running: Everything) -> None:
    for agent_id in ("well", "lost", "finished", "taken out"):
        await idle(running, agent_id)
        beat = StoredHeartbeat(agent_id, "i", NOW, None, 10 * SECOND, None, None)
        await running.heartbeat(beat)
        await given(running, task(agent_id, pinned=agent_id), session_id=agent_id)
    await claimed(running)
    later = NOW + 60 * SECOND
    await running.apply_reports(
        [
            said("active", agent_id="well", at=60 * SECOND),
            said("active", agent_id="taken out", at=60 * SECOND),
            said("finished", agent_id="finished", at=1),
        ]
    )
    await running.deregister("taken out", now=later)
    mark = Watermark(NOW, later)
    found = {t.task_id for t in await running.on_lost_instances(mark=mark, limit=9)}
    assert found == {"lost", "finished", "taken out"}
    assert len(await running.on_lost_instances(mark=mark, limit=1)) == 1
    await running.forget_instances(mark=mark, before=later, now=later)
    assert "lost" in {t.task_id for t in await running.on_lost_instances(mark=mark, limit=9)}


async def test_whose_attempt_was_stopped_is_told_until_it_has_another(running: Everything) -> None:
    await idle(running, "a", "i")
    await given(running, task("t"))
    await given(running, task("u"), session_id="other")
    await claimed(running)
    assert await running.stopped(since=0) == []
    later = NOW + 5
    await advanced(
        running, sets(state=TaskState.CANCELLED, stopped=True, ended_at=later), now=later
    )
    assert await running.stopped(since=NOW + 6) == []
    assert await running.stopped(since=later) == [Stopped("a", "i", "t.1")]
    assert await claimed(running) == {"u": ("a", "i")}
    assert await running.stopped(since=0) == []


async def test_an_attempt_that_ended_by_its_agent_s_word_is_not_told_to_stop(
    running: Everything,
) -> None:
    await idle(running)
    await given(running, task())
    await claimed(running)
    await advanced(running, ends("t", TaskState.FAILED))
    assert await running.stopped(since=0) == []


async def test_an_attempt_stays_stopped_while_another_instance_works_on_the_task(
    running: Everything,
) -> None:
    await idle(running, "a", "i")
    await given(running, task())
    await claimed(running)
    retried = sets(state=TaskState.READY, ready_at=NOW, stopped=True)
    await advanced(running, retried)
    await running.apply_reports([said("active", at=1)])
    await idle(running, "b")
    assert await claimed(running) == {"t": ("b", "i")}
    assert await running.stopped(since=0) == [Stopped("a", "i", "t.1")]
    await advanced(running, retried)
    assert set(await running.stopped(since=0)) == {
        *(Stopped("a", "i", "t.1"), Stopped("b", "i", "t.2")),
    }


async def test_a_stopped_attempt_that_turns_up_in_another_slot_is_told_there(
    running: Everything,
) -> None:
    await two_at_work(running, together=False)
    stop = sets("t", state=TaskState.CANCELLED, stopped=True, ended_at=NOW)
    await advanced(running, stop)
    await advanced(running, sets("t", instance_id="j"))
    assert Stopped("a", "j", "t.1") in await running.stopped(since=0)


async def test_two_stopped_attempts_that_turn_up_in_one_slot_are_both_told_there(
    running: Everything,
) -> None:
    await two_at_work(running, together=False)
    ended = {"state": TaskState.CANCELLED, "stopped": True, "ended_at": NOW, "instance_id": "k"}
    steps = [Advance(sets(name, **ended), task_id=name) for name in ("t", "u")]
    for after in await running.advance(steps, now=NOW):
        assert isinstance(after, Run)
    told = [one.attempt_id for one in await running.stopped(since=0) if one.instance_id == "k"]
    assert sorted(told) == ["t.1", "u.1"]


async def test_of_two_attempts_stopped_in_one_slot_after_each_other_both_are_told_once(
    running: Everything,
) -> None:
    await two_at_work(running, together=False)
    ended = {"state": TaskState.CANCELLED, "stopped": True, "ended_at": NOW}
    for name, instance_id in (("t", "k"), ("u", "k"), ("t", "l"), ("t", "k")):
        await advanced(running, sets(name, **ended, instance_id=instance_id), task_id=name)
    told = [one.attempt_id for one in await running.stopped(since=0) if one.instance_id == "k"]
    assert told == ["t.1", "u.1"]


async def test_what_was_given_to_those_that_are_forgotten_is_forgotten_too(
    running: Everything,
) -> None:
    day = 86400
    await idle(running, "a", "old", "new")
    await given(running, task("t"), task("u"))
    slots = await claimed(running)
    assert {slots["t"], slots["u"]} == {("a", "old"), ("a", "new")}
    for name in slots:
        await advanced(running, sets(name, state=TaskState.READY, stopped=True))
    assert len(await running.stopped(since=0)) == 2

    later = NOW + (day + 60) * SECOND
    await running.heartbeat(
        StoredHeartbeat("a", "old", NOW + SECOND, None, 10 * SECOND, None, None)
    )
    await running.apply_reports([said("idle", instance_id="new", at=later - NOW)])
    mark = Watermark(NOW, later)
    assert await running.forget_instances(mark=mark, before=later - day * SECOND, now=later) == 1
    (left,) = await running.stopped(since=0)
    assert (left.agent_id, left.instance_id) == ("a", "new")
    assert await running.forget_instances(mark=mark, before=later - day * SECOND, now=later) == 0

    await running.apply_reports([said("idle", instance_id="old", at=later - NOW + SECOND)])
    assert set((await claimed(running, now=later + 2 * SECOND)).values()) == set(slots.values())
