"""What an agent's reports mean for the attempt that it has."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.runs.records import Word
from opscore_middleware.core.runs.steps.timeouts import lost
from opscore_middleware.core.runs.steps.words import inferred, said_of
from opscore_middleware.core.runs.tasks import Task
from tests.core.play import Play, one


def given(*, instance_id: str = "", **fields: Any) -> tuple[Play, Task]:
    """A run of one task, given out."""
    play = Play(one("a", **fields))
    return play, play.claim("a", instance_id=instance_id)


# --- our middleware ------------------------------------------------------------------------------


def test_the_report_that_ends_a_task_brings_its_result() -> None:
    play, task = given(instance_id="i")
    ours = partial(play.say, task, instance_id="i")
    begun = ours("active", sequence=2)
    assert (begun.state, begun.deadline_at) == ("running", play.now + 600 * SECOND)
    ended = ours(
        "idle", sequence=3, opscore_task_state="completed", opscore_task_result={"n": None}
    )
    assert (ended.state, ended.result, ended.inferred) == ("completed", '{"n":null}', False)
    assert not ended.stopped


@pytest.mark.parametrize(
    ("uses", "fails"),
    [
        ({"parameters": {"p": "{{ tasks.a.result || 'none' }}"}}, True),
        ({"when": "tasks.a.result"}, True),
        ({"forEach": "tasks.a.result"}, True),
        ({"when": "tasks.a"}, True),
        ({"parameters": {"p": "{{ tasks.a.state }}"}}, False),
        ({}, False),
    ],
)
def test_a_result_that_was_dropped_is_missed_by_who_uses_it(
    uses: dict[str, Any], fails: bool
) -> None:
    play = Play(one("a"), one("b", dependsOn=["a"], **uses))
    task = play.claim("a")
    dropped = {"opscore_task_state": "completed", "opscore_task_result_dropped": True}
    ended = play.say(task, "idle", sequence=2, **dropped)
    assert (ended.state, ended.result) == ("completed", None)
    lost = play.error("a")
    assert lost["type"] == "ResultDropped"
    assert "64 KiB" in lost["message"]
    assert play.task("b").state == ("failed" if fails else "ready")
    if fails:
        message = play.error("b")["message"]
        assert message.startswith("Task 'b' uses the result of 'a', which there is none of.")
        assert lost["message"] in message


def test_a_list_of_results_of_which_one_was_dropped_is_missed_too() -> None:
    play = Play(
        one("a", forEach="initialPayload.items"),
        one("b", dependsOn=["a"], parameters={"p": "{{ tasks.a.result }}"}),
        initial_payload={"items": [1, 2]},
    )
    for item, told in enumerate(
        ({"opscore_task_result": 1}, {"opscore_task_result_dropped": True})
    ):
        task = play.claim("a", item)
        play.say(task, "idle", sequence=2, opscore_task_state="completed", **told)
    assert play.task("a").result == "[1,null]"
    assert play.error("a")["type"] == "ResultDropped"
    assert play.error("b")["message"].startswith("Task 'b' uses the result of 'a'")


def test_an_end_counts_without_a_beginning() -> None:
    play, task = given()
    ended = play.say(task, "active", sequence=9, opscore_task_state="completed")
    assert (ended.state, ended.result, ended.started_at) == ("completed", None, play.now)


def test_an_acknowledgement_of_ours_ends_nothing() -> None:
    play, task = given()
    play.say(task, "active", sequence=2)
    assert play.say(task, "idle", sequence=3).state == "running"
    assert play.say(task, "error", sequence=4).state == "running"


def test_a_failure_says_why() -> None:
    play, task = given()
    error = {"type": "ValueError", "message": "no"}
    failed = play.say(task, "error", sequence=2, opscore_task_state="failed", error=error)
    assert (failed.state, failed.spent, failed.stopped) == ("ready", 1, False)
    assert play.error("a") == error


def test_an_attempt_that_was_interrupted_is_followed_by_another() -> None:
    play, task = given()
    after = play.say(task, "idle", sequence=2, opscore_task_state="interrupted")
    assert (after.state, after.spent, after.stopped) == ("ready", 1, False)
    assert play.error("a")["type"] == "RequestInterrupted"


@pytest.mark.parametrize(
    ("status", "state", "spent"),
    [
        (400, "failed", 1),
        (422, "failed", 1),
        (408, "ready", 1),
        (425, "ready", 1),
        (500, "ready", 1),
        (429, "ready", 0),
        (503, "ready", 0),
    ],
)
def test_the_status_of_an_answer_decides_what_comes_next(
    status: int, state: str, spent: int
) -> None:
    play, task = given()
    after = play.say(
        task, "error", sequence=2, opscore_task_state="failed", opscore_task_status=status
    )
    assert (after.state, after.spent) == (state, spent)
    assert play.error("a")["status"] == status


def given_up() -> tuple[Play, Task]:
    """A run of one task, taken back from an instance that was lost."""
    play, task = given(instance_id="i")
    play.step(lost, task_id=task.task_id, attempt=task.attempt)
    return play, task


def test_the_end_of_an_attempt_that_was_given_up_counts_while_no_other_is_out() -> None:
    play, task = given_up()
    assert play.state("a") == "ready"
    done = {"opscore_task_state": "completed", "opscore_task_result": 1}
    after = play.say(task, "idle", instance_id="i", sequence=3, **done)
    assert (after.state, after.result) == ("completed", "1")
    assert play.run.state == "completed"


@pytest.mark.parametrize("state", ["failed", "interrupted", None])
def test_of_an_attempt_that_was_given_up_nothing_but_its_end_counts(state: str | None) -> None:
    play, task = given_up()
    before = play.run
    play.say(task, "active", instance_id="i", sequence=3, opscore_task_state=state)
    play.say(task, "idle", agent_id="b", opscore_task_state="completed")
    assert play.run is before


def test_an_agent_that_has_no_room_says_for_how_long() -> None:
    play, task = given()
    after = play.say(
        task,
        "idle",
        sequence=2,
        opscore_task_state="failed",
        opscore_task_status=429,
        opscore_task_retry_after=12,
    )
    assert after.ready_at == play.now + 12 * SECOND


@pytest.mark.parametrize("seconds", [10**400, 1e308], ids=["an integer", "a float"])
def test_an_agent_that_has_no_room_for_ages_has_the_task_s_time_come_to_its_end(
    seconds: float,
) -> None:
    play, task = given()
    after = play.say(
        task,
        "idle",
        sequence=2,
        opscore_task_state="failed",
        opscore_task_status=503,
        opscore_task_retry_after=seconds,
    )
    assert after.state == "failed"
    assert play.error("a")["status"] == 503


def test_the_instance_that_speaks_of_an_attempt_has_it() -> None:
    play, task = given(instance_id="i")
    assert play.say(task, "active", instance_id="j", sequence=2).instance_id == "j"
    assert play.say(task, "active", instance_id="k", sequence=5).instance_id == "k"


# --- raw agents ----------------------------------------------------------------------------------


def test_active_and_then_idle_is_the_end_of_a_task() -> None:
    play, task = given()
    assert play.say(task, "active").state == "running"
    assert play.say(task, "idle").state == "completed"


def test_active_and_then_error_is_its_failure() -> None:
    play, task = given()
    play.say(task, "active")
    assert play.say(task, "error", error="it broke").state == "ready"
    assert play.error("a") == {"type": "AgentError", "message": "it broke"}


def test_an_error_that_names_the_attempt_needs_no_beginning() -> None:
    play, task = given()
    assert play.say(task, "error").spent == 1


def test_idle_at_the_acknowledgement_ends_nothing_and_stops_the_second_sending() -> None:
    play, task = given()
    after = play.say(task, "idle")
    assert (after.state, after.rerouted) == ("dispatched", True)
    assert after.deadline_at == play.now + 600 * SECOND
    before = play.run
    play.say(task, "idle")
    assert play.run is before
    play.say(task, "active")
    assert play.say(task, "idle").state == "completed"


def test_a_result_beside_any_state_is_the_end() -> None:
    play, task = given()
    assert play.say(task, "idle", opscore_task_result=[1]).result == "[1]"


# --- whose word counts ---------------------------------------------------------------------------


def test_nobody_speaks_for_another_agent() -> None:
    play, task = given()
    before = play.run
    play.say(task, "active", agent_id="b", opscore_task_state="completed")
    assert play.run is before


def test_an_earlier_attempt_has_no_say() -> None:
    play, task = given()
    play.now = play.fail("a").ready_at or 0
    play.claim("a")
    before = play.run
    play.say(task, "idle", opscore_task_state="completed")
    assert play.run is before


def test_the_same_word_again_changes_nothing() -> None:
    play, task = given()
    play.say(task, "active")
    before = play.run
    play.say(task, "active")
    assert play.run is before
    play.say(task, "error", opscore_task_state="failed")
    after = play.run
    play.say(task, "error", opscore_task_state="failed")
    assert play.run is after


@pytest.mark.parametrize(
    "details",
    [
        None,
        "{}",
        '{"opscore_task_id": 3}',
        '{"opscore_task_id": "t-1"}',
        '{"opscore_task_id": "t-1.x"}',
        '["opscore_task_id"]',
        '{"opscore_task_id": "t-1.1"',
        '{"opscore_task_id": ' + "[" * 100_000,
    ],
)
def test_details_that_name_no_attempt_say_nothing(details: str | None) -> None:
    assert said_of(details) is None


# --- inference -----------------------------------------------------------------------------------


def infer(play: Play, task: Task, state: str, *, at: int | None = None) -> Task:
    """Have the agent report a state and name nothing."""
    word = Word(1, "a", "", state, None, play.now if at is None else at, None)
    run = play.step(inferred, word=word, task_id=task.task_id, attempt=task.attempt)
    return run.tasks[task.task_id]


@pytest.mark.parametrize(("end", "state"), [("idle", "completed"), ("error", "ready")])
def test_active_and_its_end_are_taken_for_the_attempt(end: str, state: str) -> None:
    play, task = given()
    begun = infer(play, task, "active")
    assert (begun.state, begun.inferred) == ("running", True)
    ended = infer(play, task, end)
    assert (ended.state, ended.inferred) == (state, True)


def test_what_was_said_before_the_attempt_went_out_is_not_about_it() -> None:
    play, task = given()
    before = play.run
    infer(play, task, "active", at=play.now - 1)
    assert play.run is before


def test_idle_without_active_is_no_end() -> None:
    play, task = given()
    before = play.run
    infer(play, task, "idle")
    infer(play, task, "error")
    assert play.run is before
