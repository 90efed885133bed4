"""What becomes of an attempt: begun, ended, failed, put off, timed out, lost."""

from __future__ import annotations

import math
from typing import Any

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.runs.steps.finishing import finished, progressed
from opscore_middleware.core.runs.steps.sending import not_sent, sent
from opscore_middleware.core.runs.steps.timeouts import lost, timed_out
from opscore_middleware.core.runs.tasks import Route, Task
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.errors import Conflict, Forbidden, Superseded, TaskEnded, TaskNotFound
from tests.core.play import Play, one

STUCK = {"type": "Stuck", "message": "It is stuck."}


def given(**fields: Any) -> tuple[Play, Task]:
    """A run of one task, given out."""
    play = Play(one("a", **fields))
    return play, play.claim("a")


def post(play: Play, task: Task, **values: Any) -> Task:
    """Post how an attempt ended."""
    told = {"result": None, "error": None, "by": None, "attempt": task.attempt, **values}
    return play.step(finished, task_id=task.task_id, **told).tasks[task.task_id]


# --- failing and trying again --------------------------------------------------------------------


def test_a_failed_attempt_is_followed_by_another_after_a_while() -> None:
    play, _ = given(retry={"initialInterval": "4s"})
    task = play.fail("a")
    assert task.state == "ready"
    assert task.ready_at == play.now + 4 * SECOND
    assert task.spent == 1


def test_the_pause_between_attempts_grows_to_a_cap() -> None:
    play, _ = given(
        retry={
            "maximumAttempts": 5,
            "initialInterval": "1s",
            "backoffCoefficient": 3,
            "maximumInterval": "5s",
        }
    )
    pauses = []
    for _ in range(4):
        task = play.fail("a")
        pauses.append((task.ready_at or 0) - play.now)
        play.now = task.ready_at or 0
    assert pauses == [SECOND, 3 * SECOND, 5 * SECOND, 5 * SECOND]


def test_chance_takes_any_part_of_the_pause() -> None:
    play, _ = given(retry={"initialInterval": "4s"})
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return 1.0

    play.rules.uniform = draw
    assert play.fail("a").ready_at == play.now + 1
    assert drawn == [(0.0, 4 * SECOND)]


def test_without_jitter_the_pause_is_what_it_says() -> None:
    play, _ = given(retry={"initialInterval": "4s", "jitter": False})
    play.rules.uniform = lambda low, high: math.nan
    assert play.fail("a").ready_at == play.now + 4 * SECOND


def test_a_thousand_attempts_do_not_make_the_pause_infinite() -> None:
    play, task = given(retry={"maximumAttempts": 1000, "backoffCoefficient": 100})
    play.put(task._replace(spent=998))
    assert (play.fail("a").ready_at or 0) - play.now == 60 * SECOND


def test_a_task_has_failed_once_its_attempts_are_spent() -> None:
    play, _ = given(retry={"maximumAttempts": 2})
    task = play.fail_for_good("a")
    assert (task.state, task.spent, task.attempt) == ("failed", 2, 2)
    assert task.deadline_at is None
    assert play.error("a") == {"type": "Broken", "message": "It broke."}
    assert play.run.state is SessionState.FAILED


def test_an_error_that_is_not_retried_ends_the_task_at_once() -> None:
    play, _ = given(retry={"nonRetryable": ["BadInput"]})
    assert play.fail("a", "BadInput").state == "failed"


def test_no_attempt_is_waited_for_that_could_not_begin_in_time() -> None:
    play, _ = given(retry={"initialInterval": "10s"}, timeouts={"scheduleToClose": "9s"})
    assert play.fail("a").state == "failed"


def test_an_attempt_that_succeeds_after_others_counts_all() -> None:
    play, _ = given()
    play.now = play.fail("a").ready_at or 0
    task = play.finish("a", 1)
    assert (task.state, task.attempt, task.spent, task.error) == ("completed", 2, 2, None)


# --- posting an end ------------------------------------------------------------------------------


def test_the_same_end_again_is_harmless() -> None:
    play, task = given()
    post(play, task, result="1")
    before = play.run
    post(play, task, result="1")
    assert play.run is before


def test_the_same_failure_again_spends_no_second_attempt() -> None:
    play, task = given()
    assert post(play, task, error=STUCK).spent == 1
    assert post(play, task, error=STUCK).spent == 1


def test_another_end_is_refused() -> None:
    play, task = given()
    post(play, task, result="1")
    with pytest.raises(TaskEnded, match="completed"):
        post(play, task, result="2")


def test_an_attempt_that_was_followed_by_another_is_superseded() -> None:
    play, task = given()
    play.now = play.fail("a").ready_at or 0
    play.claim("a")
    with pytest.raises(Superseded, match=r"t-1\.1 is over: t-1\.2"):
        post(play, task, result="1")


def test_a_result_counts_for_an_attempt_that_was_given_up_as_long_as_no_other_is_out() -> None:
    play, task = given()
    play.step(lost, task_id=task.task_id, attempt=task.attempt)
    assert play.state("a") == "ready"
    assert post(play, task, result="1").state == "completed"


def test_an_error_counts_no_more_for_an_attempt_that_was_given_up() -> None:
    play, task = given()
    play.step(lost, task_id=task.task_id, attempt=task.attempt)
    with pytest.raises(Superseded, match="given out again"):
        post(play, task, error=STUCK)


def test_an_attempt_that_never_was_is_not_found() -> None:
    play, task = given()
    for attempt in (0, 2):
        with pytest.raises(TaskNotFound):
            post(play, task, result="1", attempt=attempt)


def test_a_task_that_nobody_works_on_cannot_end() -> None:
    play = Play(one("a"))
    with pytest.raises(Conflict, match="nobody works on it"):
        post(play, play.task("a"), result="1", attempt=None)


def test_the_open_attempt_is_meant_where_none_is_named() -> None:
    play, task = given()
    assert post(play, task, result="1", attempt=None).state == "completed"


def test_only_the_agent_that_has_it_may_end_an_attempt() -> None:
    play, task = given()
    with pytest.raises(Forbidden, match="'b'"):
        post(play, task, result="1", by="b")
    assert post(play, task, result="1", by="a").state == "completed"


def test_whoever_gets_on_has_begun() -> None:
    play, task = given()
    play.step(
        progressed,
        task_id=task.task_id,
        attempt=1,
        progress=0.5,
        message="half",
        by=None,
    )
    task = play.task("a")
    assert (task.state, task.progress, task.progress_message) == ("running", 0.5, "half")
    assert play.fail("a").progress is None


# --- sending -------------------------------------------------------------------------------------


def unsent(play: Play, task: Task, **values: Any) -> Task:
    """Take an attempt back that could not be sent."""
    told = {"error": STUCK, "final": False, "later": False, "retry_after": None, **values}
    run = play.step(not_sent, task_id=task.task_id, attempt=task.attempt, **told)
    return run.tasks[task.task_id]


def test_an_attempt_that_was_not_sent_is_spent() -> None:
    play, task = given()
    after = unsent(play, task)
    assert (after.state, after.spent) == ("ready", 1)


def test_a_refusal_for_good_ends_the_task() -> None:
    play, task = given()
    assert unsent(play, task, final=True).state == "failed"


def test_later_spends_no_attempt_and_keeps_to_what_was_asked() -> None:
    play, task = given(retry={"maximumAttempts": 1})
    after = unsent(play, task, later=True, retry_after=7.5)
    assert (after.state, after.spent, after.attempt) == ("ready", 0, 1)
    assert after.ready_at == play.now + 7.5 * SECOND


def test_later_without_a_time_waits_longer_each_time() -> None:
    play, task = given()
    pauses = []
    for _ in range(3):
        after = unsent(play, task, later=True)
        pauses.append((after.ready_at or 0) - play.now)
        play.now = after.ready_at or 0
        task = play.claim("a")
    assert pauses == [SECOND, 2 * SECOND, 4 * SECOND]


@pytest.mark.parametrize("retry_after", [3600.0, math.inf, 1e300])
def test_later_than_the_task_may_take_fails_it(retry_after: float) -> None:
    play, task = given()
    assert unsent(play, task, later=True, retry_after=retry_after).state == "failed"


def test_once_it_is_begun_an_attempt_needs_no_sending() -> None:
    play, task = given()
    play.say(task, "active")
    assert unsent(play, task, final=True).state == "running"


def test_the_route_of_an_attempt_is_kept() -> None:
    play, task = given()
    play.run = sent(play.run, task_id=task.task_id, attempt=1, route=Route.DIRECT)
    assert play.task("a").route is Route.DIRECT
    before = play.run
    assert sent(before, task_id=task.task_id, attempt=1, route=Route.DIRECT) is before
    assert sent(before, task_id=task.task_id, attempt=9, route=Route.AGENTKIT) is before


# --- time ----------------------------------------------------------------------------------------


def wait(play: Play, seconds: float, *, other_route: Route | None = None) -> Task:
    """Let time pass, and look at the task."""
    play.now += round(seconds * SECOND)
    task_id = play.task("a").task_id
    return play.step(timed_out, task_id=task_id, other_route=other_route).tasks[task_id]


def test_nothing_happens_before_a_deadline() -> None:
    play, _ = given()
    before = play.run
    wait(play, 29.9, other_route=Route.DIRECT)
    assert play.run is before


def test_an_attempt_that_nobody_begins_goes_by_the_other_route_and_then_fails() -> None:
    play, _ = given()
    again = wait(play, 30, other_route=Route.DIRECT)
    assert (again.state, again.attempt, again.route) == ("dispatched", 1, Route.DIRECT)
    assert again.rerouted
    assert again.deadline_at == play.now + 30 * SECOND
    after = wait(play, 30, other_route=Route.AGENTKIT)
    assert (after.state, after.spent, after.stopped) == ("ready", 1, True)
    assert play.error("a")["type"] == "ScheduleToStartTimeout"


def test_without_another_route_the_attempt_fails_at_once() -> None:
    play, _ = given()
    assert wait(play, 30).state == "ready"


def test_an_attempt_that_takes_too_long_fails_and_is_stopped() -> None:
    play, task = given(timeouts={"startToClose": "5s"})
    play.say(task, "active")
    assert wait(play, 4).state == "running"
    after = wait(play, 1)
    assert (after.state, after.stopped) == ("ready", True)
    assert play.error("a")["type"] == "StartToCloseTimeout"


def test_a_task_whose_time_is_up_is_not_tried_again() -> None:
    play, task = given(timeouts={"scheduleToClose": "20s"})
    play.say(task, "active")
    after = wait(play, 20)
    assert (after.state, after.stopped) == ("failed", True)
    assert play.error("a")["type"] == "ScheduleToCloseTimeout"


def test_a_task_that_no_agent_takes_fails_when_its_time_is_up() -> None:
    play = Play(one("a"))
    after = wait(play, 3600)
    assert (after.state, after.stopped) == ("failed", False)
    assert "No agent" in play.error("a")["message"]


def test_an_attempt_is_tried_again_when_its_instance_is_gone() -> None:
    play, task = given()
    play.say(task, "active")
    after = play.step(lost, task_id=task.task_id, attempt=1).tasks[task.task_id]
    assert (after.state, after.spent, after.stopped) == ("ready", 1, True)
    before = play.run
    assert play.step(lost, task_id=task.task_id, attempt=1) is before
