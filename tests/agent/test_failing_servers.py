"""Servers that answer with 5xx: to everything, to what one report says, or every second time."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import httpx
import pytest

from tests.agent.desk import Open, ours
from tests.agent.support import Received, ScriptedOpsCore

ERROR = {"error": {"type": "ValueError", "message": "\N{SKULL}"}}


def failing_at(*sequences: int) -> Callable[[Received], httpx.Response | None]:
    """Fail at what these reports are, as a proxy may at a body, and take all others."""

    def fail(call: Received) -> httpx.Response | None:
        bad = any(report["sequence"] in sequences for report in call.reports)
        return httpx.Response(502, html="<h1>Bad gateway</h1>") if bad else None

    return fail


def test_what_one_report_says_holds_up_no_other(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    def fail(call: Received) -> httpx.Response | None:
        return httpx.Response(500) if "\N{SKULL}" in str(call.body) else None

    ops_core.script = fail
    desk_ = desk(agent_id="a")
    desk_.work()
    desk_.tracker.fail(desk_.tracker.begin(), ERROR)
    desk_.work()
    desk_.pass_time(120)
    assert desk_.deliver() is None
    told = {report["sequence"]: report for report in ops_core.reports}
    assert sorted(told) == list(range(1, 9))
    assert (told[6]["state"], told[6]["details"]) == ("error", {})
    away, refused, back = ours(log)
    assert "does not take reports" in away
    assert "sequence 6) with 500 and it was told again with less in its details" in refused
    assert "takes reports again" in back


@pytest.mark.parametrize("bad", [{1}, {3}, {3, 4}, {7}], ids=str)
def test_a_report_that_a_server_fails_at_however_little_it_says_is_counted_as_lost(
    bad: set[int], desk: Open, ops_core: ScriptedOpsCore
) -> None:
    ops_core.script = failing_at(*bad)
    desk_ = desk(agent_id="a")
    desk_.work(3)
    desk_.pass_time(240)
    assert desk_.deliver() is None
    told = {report["sequence"]: report for report in ops_core.reports}
    assert sorted(told) == [s for s in range(1, 9) if s not in bad]
    assert told[max(bad) + 1]["coalesced"] == len(bad)
    assert ops_core.reports[-1]["sequence"] == 8


def test_the_last_report_waits_until_another_shows_that_it_is_to_blame(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    ops_core.script = failing_at(2)
    desk_ = desk(agent_id="a")
    desk_.pass_time(600)
    assert desk_.deliver() is not None
    assert {report["sequence"] for report in ops_core.reports} == {1}
    desk_.work()
    desk_.pass_time(120)
    assert desk_.deliver() is None
    assert ops_core.reports[-1]["sequence"] == 4


@pytest.mark.parametrize("hears", [True, False])
def test_an_outage_in_which_everything_gets_5xx_loses_nothing(
    hears: bool, desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    """Heartbeats may pass meanwhile, where Ops-Core cannot write, say."""
    beat = httpx.Response(200, json={"lastSequence": 9, "intervalSeconds": 10})
    ops_core.script = lambda call: (
        beat if hears and call.path.endswith("/heartbeat") else httpx.Response(500)
    )
    desk_ = desk(agent_id="a")
    desk_.tracker.fail(desk_.tracker.begin(), ERROR)
    for _ in range(60):
        desk_.work()
        desk_.pass_time(60)
    assert len(ours(log)) == 1
    ops_core.script = lambda call: None
    desk_.pass_time(60)
    assert [report["sequence"] for report in ops_core.reports] == list(range(1, 125))
    assert ops_core.reports[3]["details"] == ERROR
    assert len(ours(log)) == 2


@pytest.mark.parametrize("parity", [0, 1])
def test_a_server_of_which_every_second_replica_fails_is_told_everything(
    parity: int, desk: Open, ops_core: ScriptedOpsCore
) -> None:
    """They may have failed both at first, so that a report is under suspicion."""
    ops_core.script = lambda call: httpx.Response(500)
    desk_ = desk(agent_id="a")
    desk_.tracker.fail(desk_.tracker.begin(), ERROR)
    desk_.pass_time(300)
    turns = itertools.count(parity)
    ops_core.script = lambda call: httpx.Response(500) if next(turns) % 2 else None
    desk_.pass_time(300)
    assert desk_.deliver() is None
    told = {report["sequence"]: report for report in ops_core.reports}
    assert sorted(told) == [1, 2, 3, 4]
    assert told[4]["details"] == ERROR
    assert not any("coalesced" in report for report in ops_core.reports)
