"""What people do to runs: cancel, pause, resume, retry."""

from __future__ import annotations

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.runs.steps.session_steps import cancel, pause, resume
from opscore_middleware.core.runs.steps.task_steps import (
    cancel_task,
    retry_dead,
    retry_session,
    retry_task,
)
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.errors import Conflict, SessionEnded, TaskEnded, TaskNotFound
from tests.core.play import Play, one

ONCE = {"maximumAttempts": 1}


def line() -> Play:
    return Play(one("a", retry=ONCE), one("b", dependsOn=["a"], retry=ONCE))


# --- cancel --------------------------------------------------------------------------------------


def test_a_cancelled_session_does_nothing_more() -> None:
    play = line()
    play.claim("a")
    play.step(cancel)
    assert play.states() == {"a": "cancelled", "b": "cancelled"}
    assert play.task("a").stopped
    assert play.run.state is SessionState.CANCELLED
    before = play.run
    assert play.step(cancel) is before


def test_a_session_that_is_completed_is_not_cancelled() -> None:
    play = Play(one("a"))
    play.finish("a")
    with pytest.raises(SessionEnded, match="Start a new session"):
        play.step(cancel)


def test_who_would_cancel_a_session_that_failed_is_told_of_the_retry() -> None:
    play = Play(one("a", retry=ONCE))
    play.fail("a")
    with pytest.raises(SessionEnded, match="POST /v1/opscore/sessions/s/retry"):
        play.step(cancel)


def test_a_cancelled_task_ends_the_session_that_needs_it() -> None:
    play = line()
    play.step(cancel_task, task_id="t-1")
    assert play.states() == {"a": "cancelled", "b": "cancelled"}
    assert play.error()["type"] == "TaskCancelled"


def test_a_cancelled_task_is_passed_over_where_the_session_goes_on() -> None:
    play = Play(one("a", onFailure="continue"), one("b", dependsOn=["a"]))
    play.step(cancel_task, task_id="t-1")
    assert play.state("b") == "ready"


def test_a_cancelled_task_with_items_cancels_them() -> None:
    play = Play(
        one("a", forEach="initialPayload.list", onFailure="continue"),
        initial_payload={"list": [1, 2]},
    )
    play.finish("a", item=0)
    play.step(cancel_task, task_id="t-1")
    assert [play.state("a", i) for i in (0, 1)] == ["completed", "cancelled"]
    assert play.run.state is SessionState.COMPLETED


def test_a_task_that_is_over_is_not_cancelled() -> None:
    play = line()
    play.finish("a")
    with pytest.raises(TaskEnded):
        play.step(cancel_task, task_id="t-1")
    with pytest.raises(TaskNotFound):
        play.step(cancel_task, task_id="t-9")


# --- pause ---------------------------------------------------------------------------------------


def test_a_pause_counts_against_no_ones_time() -> None:
    play = Play(one("a", timeouts={"scheduleToClose": "10s"}))
    play.step(pause)
    assert play.task("a").deadline_at is None
    play.now += 100 * SECOND
    play.step(resume)
    assert play.task("a").deadline_at == play.now + 10 * SECOND
    assert play.run.state is SessionState.STARTED


def test_what_is_out_goes_on_through_a_pause() -> None:
    play = line()
    task = play.claim("a")
    play.step(pause)
    play.say(task, "active")
    play.say(task, "idle")
    assert play.state("b") == "ready"
    assert play.task("b").deadline_at is None
    play.now += 5 * SECOND
    play.step(resume)
    assert play.run.state is SessionState.RUNNING
    assert play.task("b").deadline_at == play.task("b").close_by


def test_pausing_twice_and_resuming_twice_change_nothing() -> None:
    play = line()
    before = play.run
    assert play.step(resume) is before
    paused = play.step(pause)
    assert play.step(pause) is paused


# --- retry ---------------------------------------------------------------------------------------


def test_a_session_goes_on_from_where_it_failed() -> None:
    play = Play(
        one("a"), one("b", dependsOn=["a"], retry=ONCE), one("c", dependsOn=["b"]), one("d")
    )
    play.finish("a", 1)
    play.fail("b")
    assert play.states() == {"a": "completed", "b": "failed", "c": "cancelled", "d": "cancelled"}
    play.step(retry_session)
    assert play.states() == {"a": "completed", "b": "ready", "c": "waiting", "d": "ready"}
    assert play.run.state is SessionState.RUNNING
    assert play.run.ended_at is None
    assert play.run.error is None
    again = play.claim("b")
    assert (again.attempt, again.spent) == (2, 0)
    for name in ("b", "c", "d"):
        play.finish(name, name)
    assert play.result() == {"a": 1, "b": "b", "c": "c", "d": "d"}


def test_a_cancelled_session_can_be_retried() -> None:
    play = line()
    play.step(cancel)
    play.step(retry_session)
    assert play.states() == {"a": "ready", "b": "waiting"}


def test_a_session_that_goes_on_or_is_completed_is_not_retried() -> None:
    play = Play(one("a"))
    with pytest.raises(Conflict, match="is started"):
        play.step(retry_session)
    play.finish("a")
    with pytest.raises(SessionEnded):
        play.step(retry_session)


def test_items_that_are_done_stay_done() -> None:
    play = Play(
        one("a", forEach="initialPayload.list", retry=ONCE), initial_payload={"list": [1, 2, 3]}
    )
    play.finish("a", "first", item=0)
    play.fail("a", item=1)
    play.step(retry_session)
    assert [play.state("a", i) for i in range(3)] == ["completed", "ready", "ready"]
    assert play.state("a") == "running"
    play.finish("a", "second", item=1)
    play.finish("a", "third", item=2)
    assert play.result() == {"a": ["first", "second", "third"]}


def test_a_task_and_its_fallback_are_both_tried_again() -> None:
    play = Play(one("a", retry=ONCE, fallbackTaskId="f"), one("f", retry=ONCE))
    play.fail("a")
    play.fail("f")
    play.step(retry_session)
    assert play.states() == {"a": "ready", "f": "waiting"}
    play.finish("a", 1)
    assert play.states() == {"a": "completed", "f": "skipped"}


def test_one_task_is_tried_again_and_the_session_goes_on() -> None:
    play = line()
    play.fail("a")
    play.step(retry_task, task_id="t-1")
    assert play.states() == {"a": "ready", "b": "waiting"}
    assert play.run.state is SessionState.RUNNING


def test_a_task_that_waits_for_its_next_attempt_need_not_wait() -> None:
    play = Play(one("a", retry={"initialInterval": "30s"}))
    play.fail("a")
    play.step(retry_task, task_id="t-1")
    assert play.task("a").ready_at == play.now


def test_an_item_is_tried_again_while_the_others_go_on() -> None:
    play = Play(
        one("a", forEach="initialPayload.list", retry=ONCE, onFailure="continue"),
        initial_payload={"list": [1, 2]},
    )
    play.fail("a", item=0)
    play.step(retry_task, task_id="t-1-0")
    assert play.state("a", 0) == "ready"
    play.finish("a", 1, item=0)
    play.finish("a", 2, item=1)
    assert play.result() == {"a": [1, 2]}


def test_an_item_that_a_task_went_on_without_takes_its_place_in_the_end() -> None:
    play = Play(
        one("a", forEach="initialPayload.list", retry=ONCE, onFailure="continue"),
        one("b"),
        one("c", dependsOn=["a", "b"], parameters={"all": "{{ tasks.a.result }}"}),
        initial_payload={"list": [1, 2]},
    )
    play.finish("a", 1, item=0)
    play.fail("a", item=1)
    play.step(retry_task, task_id="t-1-1")
    play.finish("b")
    assert play.states() == {"a": "running", "b": "completed", "c": "waiting"}
    play.finish("a", 2, item=1)
    assert play.parameters("c") == {"all": [1, 2]}
    play.finish("c")
    assert play.result()["a"] == [1, 2]


def test_a_task_that_did_not_fail_is_not_retried() -> None:
    play = line()
    for task_id in ("t-1", "t-2"):
        with pytest.raises(Conflict):
            play.step(retry_task, task_id=task_id)
    play.finish("a")
    with pytest.raises(Conflict):
        play.step(retry_task, task_id="t-1")


def test_a_session_that_was_completed_without_a_task_stays_so() -> None:
    play = Play(one("a", retry=ONCE, onFailure="continue"))
    play.fail("a")
    with pytest.raises(SessionEnded, match="completed without"):
        play.step(retry_task, task_id="t-1")
    before = play.run
    assert play.step(retry_dead) is before


def test_a_failure_that_is_left_decides_in_the_end() -> None:
    play = Play(one("a", retry=ONCE), one("b", retry=ONCE, dependsOn=["a"]), one("c"))
    play.fail("a")
    play.step(retry_task, task_id="t-3")
    assert play.states() == {"a": "failed", "b": "waiting", "c": "ready"}
    play.finish("c")
    assert play.run.state is SessionState.FAILED
    assert play.error()["node"] == "a"


def test_what_a_session_went_on_without_is_not_tried_again_with_it() -> None:
    play = Play(
        one("a", retry=ONCE, fallbackTaskId="b", onFailure="continue"),
        one("b", retry=ONCE),
        one("c", dependsOn=["a"], retry=ONCE),
    )
    for name in ("a", "b", "c"):
        play.fail(name)
    play.step(retry_session)
    assert play.states() == {"a": "failed", "b": "failed", "c": "ready"}


def test_dead_tasks_are_replayed_and_cancelled_sessions_left() -> None:
    play = line()
    play.fail("a")
    play.step(retry_dead)
    assert play.states() == {"a": "ready", "b": "waiting"}
    play.step(cancel)
    before = play.run
    assert play.step(retry_dead) is before
