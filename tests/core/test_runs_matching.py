"""Which task goes to which slot, and who makes room in one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.core.runs.changes import changes, entered, slot_of, swapped
from opscore_middleware.core.runs.matching import Slot, Waiting, match
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.tasks import Task, TaskState
from tests.stores.run_support import runs, task


def waiting(task_key: int, **fields: Any) -> Waiting:
    values: dict[str, Any] = {
        "pinned": None,
        "capability": "c",
        "priority": 0,
        "ready_at": 0,
        "created_at": 0,
        "session_agent": "nobody",
        **fields,
    }
    return Waiting(task_key, **values)


def slot(agent_id: str, instance_id: str = "i", *can: str, tasked_at: int | None = None) -> Slot:
    return Slot(agent_id, instance_id, can or ("c",), tasked_at)


def matched(tasks: list[Waiting], slots: list[Slot], limit: int = 100) -> dict[int, str]:
    return {m.task.task_key: m.slot.agent_id for m in match(tasks, slots, limit=limit)}


def test_tasks_go_by_priority_then_readiness_then_age() -> None:
    tasks = [
        waiting(1, ready_at=2),
        waiting(2, ready_at=1, created_at=2),
        waiting(3, ready_at=1, created_at=1),
        waiting(4, priority=1, ready_at=9),
        waiting(5, ready_at=1, created_at=1),
    ]
    slots = [slot(f"a{n}", tasked_at=n) for n in range(5)]
    assert matched(tasks, slots) == {4: "a0", 3: "a1", 5: "a2", 2: "a3", 1: "a4"}
    assert matched(tasks, slots, limit=2) == {4: "a0", 3: "a1"}
    assert matched(tasks, []) == {}


def test_who_never_had_a_task_goes_before_who_waited_longest() -> None:
    slots = [slot("later", tasked_at=2), slot("earlier", tasked_at=1), slot("never")]
    assert matched([waiting(n) for n in range(3)], slots) == {0: "never", 1: "earlier", 2: "later"}


def test_the_session_s_agent_goes_first_where_it_can() -> None:
    slots = [slot("a"), slot("own", tasked_at=9), slot("other", "i", "d")]
    assert matched([waiting(1, session_agent="own")], slots) == {1: "own"}
    assert matched([waiting(1, session_agent="other")], slots) == {1: "a"}


def test_a_pinned_task_takes_its_agent_s_slot_or_none() -> None:
    slots = [slot("a"), slot("b", "i", "other")]
    assert matched([waiting(1, pinned="b")], slots) == {1: "b"}
    assert matched([waiting(1, pinned="gone")], slots) == {}


def test_one_instance_after_the_other_of_an_agent_is_taken() -> None:
    slots = [slot("a", "i"), slot("a", "j"), slot("a", "k")]
    tasks = [waiting(1, pinned="a"), waiting(2), waiting(3, session_agent="a"), waiting(4)]
    taken = [m.slot.instance_id for m in match(tasks, slots, limit=9)]
    assert taken == ["i", "j", "k"]


@given(
    st.lists(
        st.builds(
            waiting,
            st.integers(),
            pinned=st.sampled_from([None, None, "a", "b", "z"]),
            capability=st.sampled_from("cde"),
            priority=st.integers(-1, 1),
            session_agent=st.sampled_from("abz"),
        ),
        unique_by=lambda task: task.task_key,
        max_size=12,
    ),
    st.lists(
        st.builds(
            lambda agent, instance, can, tasked_at: Slot(agent, instance, can, tasked_at),
            st.sampled_from("ab"),
            st.sampled_from("ijk"),
            st.sets(st.sampled_from("cd")),
            st.none() | st.integers(0, 3),
        ),
        unique_by=lambda slot: slot[:2],
        max_size=6,
    ),
    st.integers(0, 8),
)
def test_nothing_is_given_twice_nor_kept_back(
    tasks: list[Waiting], slots: list[Slot], limit: int
) -> None:
    def fits(task: Waiting, slot: Slot) -> bool:
        if task.pinned is not None:
            return slot.agent_id == task.pinned
        return task.capability in slot.capabilities

    matches = match(tasks, slots, limit=limit)
    given_out = {m.task.task_key for m in matches}
    taken = {m.slot[:2] for m in matches}
    assert len(given_out) == len(taken) == len(matches) <= limit
    assert all(fits(m.task, m.slot) for m in matches)
    free = [slot for slot in slots if slot[:2] not in taken]
    left = [task for task in tasks if task.task_key not in given_out]
    assert len(matches) == limit or not any(fits(t, s) for t in left for s in free)


# --- making room ---------------------------------------------------------------------------------


def at(task_id: str, instance_id: str, session_id: str = "s") -> Task:
    return task(
        task_id,
        session_id=session_id,
        state=TaskState.DISPATCHED,
        agent_id="a",
        instance_id=instance_id,
    )


def moved(before: Run, **to: str) -> Run:
    tasks = {
        name: t._replace(instance_id=to[name]) if name in to else t
        for name, t in before.tasks.items()
    }
    return before._replace(tasks=tasks)


def where(*told: Run) -> dict[str, str | None]:
    return {t.task_id: t.instance_id for run in told for t in run.tasks.values()}


def after_swap(before: list[Run], after: list[Run]) -> dict[str, str | None]:
    by_id = {run.session_id: run for run in after}
    return where(*(by_id | swapped({run.session_id: run for run in before}, by_id)).values())


def test_only_what_differs_is_a_change() -> None:
    before = runs(at("t", "i"), at("u", "j"))
    assert changes(before, before) == []
    after = moved(before, t="k")
    new = task("new")
    added = after._replace(tasks={**after.tasks, "new": new})
    assert changes(before, added) == [
        (before.tasks["t"], after.tasks["t"]),
        (None, new),
    ]
    assert entered(changes(before, added)) == [("a", "k")]


def test_only_an_attempt_that_is_out_holds_a_slot() -> None:
    assert slot_of(at("t", "")) == ("a", "")
    assert slot_of(at("t", "i")._replace(state=TaskState.READY)) is None
    assert slot_of(task("items", state=TaskState.RUNNING)) is None
    assert slot_of(None) is None


def test_the_one_that_is_in_the_way_takes_the_slot_that_was_left() -> None:
    before = runs(at("t", "i"), at("u", "j"), at("other", "k"))
    assert after_swap([before], [moved(before, t="j")]) == {"t": "j", "u": "i", "other": "k"}


def test_runs_make_room_for_each_other() -> None:
    one, two = runs(at("t", "i")), runs(at("u", "j"), session_id="two")
    assert after_swap([one, two], [moved(one, t="j"), two]) == {"t": "j", "u": "i"}


def test_going_round_in_a_circle_needs_no_room() -> None:
    before = runs(at("t", "i"), at("u", "j"), at("v", "k"))
    after = moved(before, t="j", u="k", v="i")
    assert after_swap([before], [after]) == where(after)


def test_a_chain_of_moves_ends_in_the_slot_that_is_free() -> None:
    before = runs(at("t", "i"), at("u", "j"), at("v", "k"))
    assert after_swap([before], [moved(before, t="j", u="k")]) == {"t": "j", "u": "k", "v": "i"}
