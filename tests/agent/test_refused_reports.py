"""Reports that are refused for good: the state is told all the same, where that is possible."""

from __future__ import annotations

import httpx
import pytest

from opscore_middleware.agent.results import TaskResult
from tests.agent.desk import Open, ours
from tests.agent.support import Received, ScriptedOpsCore


def test_the_one_bad_report_is_found_dropped_and_logged_once(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    desk_ = desk(agent_id="a")
    desk_.work(8)
    bad = 7

    def refuse(call: Received) -> httpx.Response | None:
        if any(report["sequence"] == bad for report in call.reports):
            return httpx.Response(422, json={"detail": "no", "code": "validation_failed"})
        return None

    ops_core.script = refuse
    assert desk_.deliver() is None
    assert [r["sequence"] for r in ops_core.reports] == [s for s in range(1, 19) if s != bad]
    assert [r["sequence"] for r in ops_core.reports if "coalesced" in r] == [bad + 1]
    [line] = ours(log)
    assert "sequence 7" in line
    assert "422" in line
    desk_.work()
    assert desk_.deliver() is None


@pytest.mark.parametrize("bad", [{3}, {3, 4}, {4, 5, 6}, {6}, {5, 6}])
def test_what_is_refused_is_counted_in_the_report_that_follows(
    desk: Open, ops_core: ScriptedOpsCore, bad: set[int]
) -> None:
    desk_ = desk(agent_id="a")
    desk_.tracker.fail(desk_.tracker.begin(), {})
    desk_.work()
    ops_core.script = lambda call: (
        httpx.Response(422) if bad & {report["sequence"] for report in call.reports} else None
    )
    assert desk_.deliver() is None
    desk_.work()
    assert desk_.deliver() is None
    told = {report["sequence"]: report for report in ops_core.reports}
    assert sorted(told) == [s for s in range(1, 9) if s not in bad]
    following = told.pop(max(bad) + 1)
    assert (following["coalesced"], following.get("errors", 0)) == (len(bad), len(bad & {4}))
    assert not [report for report in told.values() if "coalesced" in report]
    assert (desk_.outbox.folded, desk_.outbox.dropped) == (len(bad), 0)


def test_what_is_refused_before_another_instance_is_counted_as_dropped(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    desk_ = desk(agent_id="a")
    assert desk_.deliver() is None
    ops_core.script = lambda call: (
        httpx.Response(422) if "finished" in [r["state"] for r in call.reports] else None
    )
    desk_.tracker.shutdown()
    desk_.tracker.lifespan_ends()
    desk_.tracker.lifespan_begins()
    assert desk_.deliver() is None
    assert ops_core.states == ["initializing", "idle", "draining", "initializing"]
    assert "coalesced" not in ops_core.reports[-1]
    assert (desk_.outbox.folded, desk_.outbox.dropped) == (0, 1)


def test_a_state_whose_details_are_refused_is_told_without_them(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    ops_core.script = lambda call: (
        httpx.Response(422, json={"detail": "too much", "code": "validation_failed"})
        if any("error" in (report.get("details") or {}) for report in call.reports)
        else None
    )
    desk_ = desk(agent_id="a")
    for _ in range(3):
        desk_.tracker.fail(desk_.tracker.begin(), {"error": {"type": "ValueError"}})
        assert desk_.deliver() is None
    assert ops_core.states == ["initializing", "idle", *["active", "error"] * 3]
    assert [report["sequence"] for report in ops_core.reports] == list(range(1, 9))
    assert not ops_core.reports[-1]["details"]
    [line] = ours(log)
    assert "sequence 4" in line
    assert "less in its details" in line


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (
            {"opscore_task_result"},
            {
                "opscore_task_id": "t.1",
                "opscore_task_state": "completed",
                "opscore_task_result_dropped": True,
            },
        ),
        ({"opscore_task_result", "opscore_task_id"}, {}),
    ],
    ids=["its result", "its id"],
)
def test_of_a_task_that_ended_its_end_is_told_for_as_long_as_it_may_be(
    desk: Open, ops_core: ScriptedOpsCore, refused: set[str], told: dict[str, object]
) -> None:
    ops_core.script = lambda call: (
        httpx.Response(413)
        if any(refused & set(report.get("details") or {}) for report in call.reports)
        else None
    )
    desk_ = desk(agent_id="a")
    ended = {"opscore_task_id": "t.1", "opscore_task_state": "completed"}
    unit = desk_.tracker.begin()
    desk_.tracker.end(unit, {**ended, "opscore_task_result": TaskResult(b"[1]")})
    assert desk_.deliver() is None
    assert ops_core.states == ["initializing", "idle", "active", "idle"]
    assert ops_core.reports[-1]["details"] == told
