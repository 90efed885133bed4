"""What follows from what: order, conditions, items, fallbacks, and how a session ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from opscore_middleware.core.clock import LATEST, SECOND
from opscore_middleware.core.runs.steps import settling
from opscore_middleware.core.runs.views import as_task
from opscore_middleware.core.sessions import SessionState
from tests.core.play import NOW, Play, one

ONCE = {"maximumAttempts": 1}


def test_what_nothing_comes_before_is_ready_at_once() -> None:
    play = Play(one("a", nextTaskId="c"), one("b"), one("c"))
    assert play.states() == {"a": "ready", "b": "ready", "c": "waiting"}
    assert play.run.state is SessionState.STARTED


def test_a_task_is_ready_once_all_before_it_have_ended() -> None:
    play = Play(one("a"), one("b"), one("c", dependsOn=["a", "b"]))
    play.finish("a")
    assert play.state("c") == "waiting"
    play.finish("b")
    assert play.state("c") == "ready"


def test_the_session_is_completed_with_the_results_of_all() -> None:
    play = Play(one("a", nextTaskId="b"), one("b"))
    play.finish("a", {"n": 1})
    assert play.run.ended_at is None
    play.finish("b", [2])
    assert play.run.state is SessionState.COMPLETED
    assert play.result() == {"a": {"n": 1}, "b": [2]}
    assert play.run.ended_at == play.now


def test_results_flow_into_parameters_with_their_types() -> None:
    play = Play(
        one("a"),
        one("b", dependsOn=["a"], parameters={"n": "{{ tasks.a.result.n }}", "fixed": "x"}),
    )
    play.finish("a", {"n": [1, None]})
    assert play.parameters("b") == {"n": [1, None], "fixed": "x"}


def test_the_payload_is_for_those_that_nothing_comes_before() -> None:
    play = Play(
        one("a", nextTaskId="c"),
        one("b", parameters={"own": 1}),
        one("c"),
        initial_payload={"p": 1},
    )
    assert play.parameters("a") == {"p": 1}
    assert play.parameters("b") == {"own": 1}
    play.finish("a")
    assert play.parameters("c") == {}


def test_a_parameter_that_finds_nothing_fails_its_task_by_name() -> None:
    play = Play(one("a"), one("b", dependsOn=["a"], parameters={"n": "{{ tasks.a.result.n }}"}))
    play.finish("a", {})
    assert play.states()["b"] == "failed"
    assert "tasks.a.result.n" in play.error("b")["message"]
    assert play.run.state is SessionState.FAILED


def test_a_false_condition_skips_a_task_and_those_after_it_run() -> None:
    play = Play(
        one("a"),
        one("b", dependsOn=["a"], when="tasks.a.result.go"),
        one("c", dependsOn=["b"], parameters={"b": "{{ tasks.b.result || `null` }}"}),
    )
    play.finish("a", {"go": False})
    assert play.states() == {"a": "completed", "b": "skipped", "c": "ready"}
    assert play.parameters("c") == {"b": None}


def test_a_session_whose_tasks_are_all_skipped_is_completed() -> None:
    play = Play(one("a", when="initialPayload.go"))
    assert play.run.state is SessionState.COMPLETED
    assert play.result() == {"a": None}


def test_a_delay_and_a_time_put_the_start_off_to_the_later() -> None:
    late = "2100-01-01T00:00:00Z"
    play = Play(one("a", delay="10s"), one("b", runAt=late, delay="10s"))
    assert play.task("a").ready_at == NOW + 10 * SECOND
    assert play.task("b").ready_at == 4_102_444_800 * SECOND


def test_nothing_is_given_out_before_the_session_is_to_begin() -> None:
    play = Play(one("a", nextTaskId="b"), one("b"), run_at=NOW + 60 * SECOND)
    assert play.task("a").ready_at == NOW + 60 * SECOND
    play.now += 70 * SECOND
    play.finish("a")
    assert play.task("b").ready_at == play.now


def test_what_is_put_off_beyond_all_time_begins_at_its_end() -> None:
    play = Play(one("a", delay="36000d"), run_at=LATEST - SECOND)
    assert play.task("a").ready_at == LATEST
    assert as_task(play.task("a")).ready_at == datetime.max.replace(tzinfo=UTC)


def test_time_to_be_over_begins_when_a_task_may_begin() -> None:
    play = Play(one("a", delay="10s", timeouts={"scheduleToClose": "5s"}))
    assert play.task("a").close_by == NOW + 15 * SECOND
    assert play.task("a").deadline_at == NOW + 15 * SECOND


def test_a_task_for_nobody_is_for_the_agent_of_the_session() -> None:
    play = Play({"taskId": "a", "name": "A"}, one("b"), one("c", agentId="x"))
    assert play.task("a").pinned == "own"
    assert play.task("b").pinned is None
    assert play.task("c").pinned == "x"


# --- for each ------------------------------------------------------------------------------------


def spread(**fields: object) -> Play:
    return Play(
        one("each", forEach="initialPayload.list", parameters={"i": "{{ item }}"}, **fields),
        one("then", dependsOn=["each"], parameters={"all": "{{ tasks.each.result }}"}),
        initial_payload={"list": ["x", "y"]},
    )


def test_a_task_is_done_once_for_each_item_and_gathered_in_order() -> None:
    play = spread()
    assert [play.parameters("each", i) for i in (0, 1)] == [{"i": "x"}, {"i": "y"}]
    assert play.state("each") == "running"
    play.finish("each", 2, item=1)
    assert play.state("each") == "running"
    play.finish("each", 1, item=0)
    assert play.state("each") == "completed"
    assert play.parameters("then") == {"all": [1, 2]}


def test_an_empty_list_is_done_at_once() -> None:
    play = Play(one("each", forEach="initialPayload.list"), initial_payload={"list": []})
    assert play.run.state is SessionState.COMPLETED
    assert play.result() == {"each": []}


def test_an_item_that_failed_fails_its_task_and_spares_the_others() -> None:
    play = spread(retry=ONCE)
    play.claim("each", 1)
    play.fail("each", item=0)
    assert play.state("each") == "failed"
    assert play.state("each", 1) == "cancelled"
    assert play.task("each", 1).stopped
    assert play.run.state is SessionState.FAILED
    assert play.error()["cause"] == {"type": "Broken", "message": "It broke."}


def test_an_item_that_failed_leaves_a_gap_where_the_task_goes_on() -> None:
    play = spread(retry=ONCE, onFailure="continue")
    play.fail("each", item=0)
    play.finish("each", 2, item=1)
    assert play.parameters("then") == {"all": [None, 2]}


def test_what_is_no_list_fails_its_task() -> None:
    play = Play(one("each", forEach="initialPayload.list"), initial_payload={"list": 3})
    assert play.state("each") == "failed"
    assert "list" in play.error("each")["message"]


def test_more_items_than_are_taken_fail_their_task() -> None:
    play = Play(
        one("each", forEach="initialPayload.list"),
        initial_payload={"list": [0] * (settling.MAX_ITEMS + 1)},
    )
    assert play.state("each") == "failed"
    assert "10,001" in play.error("each")["message"]


def test_items_that_are_given_too_much_fail_their_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "MAX_SIZE", 1000)
    play = Play(
        one("each", forEach="initialPayload.list", parameters={"all": "{{ initialPayload }}"}),
        initial_payload={"list": [0] * 100, "book": "x" * (settling.MAX_SIZE // 99)},
    )
    assert play.state("each") == "failed"
    assert "reference" in play.error("each")["message"]


def test_results_that_are_too_large_together_fail_their_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settling, "MAX_SIZE", 1000)
    play = spread()
    for item in (0, 1):
        play.finish("each", "x" * (settling.MAX_SIZE // 2), item=item)
    assert play.state("each") == "failed"
    assert play.error("each")["type"] == "ResultsTooLarge"


# --- failures ------------------------------------------------------------------------------------


def test_a_task_that_failed_ends_the_session_and_all_that_goes_on() -> None:
    play = Play(one("a", retry=ONCE), one("b"), one("c", dependsOn=["a"]))
    play.claim("b")
    play.fail("a")
    assert play.states() == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    assert play.task("b").stopped
    assert not play.task("c").stopped
    assert play.run.state is SessionState.FAILED
    assert play.error()["node"] == "a"


def test_a_session_goes_on_after_a_failure_where_it_may() -> None:
    play = Play(one("a", retry=ONCE, onFailure="continue"), one("b", dependsOn=["a"]))
    play.fail("a")
    assert play.state("b") == "ready"
    play.finish("b", 1)
    assert play.run.state is SessionState.COMPLETED
    assert play.result() == {"a": None, "b": 1}


def fallen_back() -> Play:
    return Play(
        one("a", retry=ONCE, fallbackTaskId="plan_b"),
        one("plan_b", retry=ONCE, parameters={"why": "{{ tasks.a.state }}"}),
        one("after", dependsOn=["a"], parameters={"got": "{{ tasks.a.result }}"}),
    )


def test_a_fallback_is_not_done_where_nothing_failed() -> None:
    play = fallen_back()
    assert play.state("plan_b") == "waiting"
    play.finish("a", 1)
    assert play.states() == {"a": "completed", "plan_b": "skipped", "after": "ready"}


def test_the_result_of_a_fallback_stands_for_that_of_the_task() -> None:
    play = fallen_back()
    play.fail("a")
    assert play.states() == {"a": "failed", "plan_b": "ready", "after": "waiting"}
    assert play.parameters("plan_b") == {"why": "failed"}
    play.finish("plan_b", "saved")
    assert play.parameters("after") == {"got": "saved"}
    play.finish("after", 1)
    assert play.run.state is SessionState.COMPLETED
    assert play.result() == {"a": "saved", "plan_b": "saved", "after": 1}


def test_a_session_fails_where_the_fallback_fails_too() -> None:
    play = fallen_back()
    play.fail("a")
    play.fail("plan_b")
    assert play.run.state is SessionState.FAILED
    assert play.error()["node"] == "plan_b"
    assert play.state("after") == "cancelled"


def test_fallbacks_follow_each_other() -> None:
    play = Play(
        one("a", retry=ONCE, fallbackTaskId="b"),
        one("b", retry=ONCE, fallbackTaskId="c"),
        one("c"),
        one("after", dependsOn=["a"], parameters={"got": "{{ tasks.a.result }}"}),
    )
    play.fail("a")
    play.fail("b")
    assert play.state("after") == "waiting"
    play.finish("c", 3)
    assert play.parameters("after") == {"got": 3}


def test_a_fallback_that_is_skipped_leaves_the_failure_as_it_is() -> None:
    play = Play(
        one("a", retry=ONCE, fallbackTaskId="b"), one("b", when="initialPayload.go"), one("c")
    )
    play.fail("a")
    assert play.run.state is SessionState.FAILED
    assert play.error()["node"] == "a"


def test_a_session_goes_on_where_it_may_though_the_fallback_fails_too() -> None:
    play = Play(
        one("a", retry=ONCE, fallbackTaskId="b", onFailure="continue"),
        one("b", retry=ONCE, fallbackTaskId="c"),
        one("c", retry=ONCE),
        one("after", dependsOn=["a"], parameters={"got": "{{ tasks.a.result || 'nothing' }}"}),
    )
    play.fail("a")
    play.fail("b")
    assert play.state("after") == "waiting"
    play.fail("c")
    assert play.parameters("after") == {"got": "nothing"}
    play.finish("after", 1)
    assert play.run.state is SessionState.COMPLETED
    assert play.result() == {"a": None, "b": None, "c": None, "after": 1}


def test_one_fallback_stands_in_for_several_once_all_have_ended() -> None:
    play = Play(
        one("a", retry=ONCE, fallbackTaskId="f"), one("b", retry=ONCE, fallbackTaskId="f"), one("f")
    )
    play.fail("a")
    assert play.state("f") == "waiting"
    play.fail("b")
    play.finish("f", 1)
    assert play.result() == {"a": 1, "b": 1, "f": 1}


def test_what_waits_for_a_fallback_that_was_not_needed_runs() -> None:
    play = Play(one("a", fallbackTaskId="f"), one("f"), one("c", dependsOn=["f"]))
    play.finish("a")
    assert play.states() == {"a": "completed", "f": "skipped", "c": "ready"}


@pytest.mark.parametrize("width", [1, 30])
def test_layers_of_tasks_settle_in_one_go(width: int) -> None:
    """Every path from top to bottom is one: going through each would never end."""
    layers = [
        one(
            f"t{depth}_{place}",
            when="initialPayload.go",
            dependsOn=[f"t{depth - 1}_{other}" for other in range(width)] if depth else [],
        )
        for depth in range(20)
        for place in range(width)
    ]
    play = Play(*layers)
    assert play.run.state is SessionState.COMPLETED
    assert set(play.states().values()) == {"skipped"}
