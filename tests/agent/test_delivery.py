"""Decisions about answers: tables, bounds and budgets."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.agent.delivery import (
    Answer,
    Budget,
    Load,
    Verdict,
    backoff,
    judge,
    retry_after,
)


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    return Answer(status, headers, b"" if body is None else json.dumps(body).encode())


OURS = {"detail": "no", "code": "agent_not_found"}

VERDICTS = [
    (answer(200), Verdict.DELIVERED, Verdict.DELIVERED),
    (answer(202), Verdict.DELIVERED, Verdict.DELIVERED),
    (answer(204), Verdict.DELIVERED, Verdict.DELIVERED),
    (Answer(200, {"content-type": "text/plain"}, b"ok"), Verdict.DELIVERED, Verdict.DELIVERED),
    (Answer(200, {"content-type": "text/HTML; charset=utf-8"}, b""), Verdict.LATER, Verdict.LATER),
    (answer(301), Verdict.LATER, Verdict.LATER),
    (answer(400, OURS), Verdict.REFUSED, Verdict.REFUSED),
    (answer(401), Verdict.UNAUTHORIZED, Verdict.UNAUTHORIZED),
    (answer(403), Verdict.UNAUTHORIZED, Verdict.UNAUTHORIZED),
    (answer(404, OURS), Verdict.UNKNOWN_AGENT, Verdict.UNKNOWN_AGENT),
    (answer(404, {"detail": "Not Found"}), Verdict.NO_BATCHES, Verdict.UNKNOWN_AGENT),
    (answer(404, {"code": "not_found"}), Verdict.NO_BATCHES, Verdict.UNKNOWN_AGENT),
    (answer(404, ["code"]), Verdict.NO_BATCHES, Verdict.UNKNOWN_AGENT),
    (Answer(404, {}, b"<html>"), Verdict.NO_BATCHES, Verdict.UNKNOWN_AGENT),
    (Answer(404, {}, b"\xff\xfe"), Verdict.NO_BATCHES, Verdict.UNKNOWN_AGENT),
    (Answer(404, {}, b"[" * 100_000), Verdict.NO_BATCHES, Verdict.UNKNOWN_AGENT),
    (answer(405, OURS), Verdict.NO_BATCHES, Verdict.LATER),
    (answer(408), Verdict.LATER, Verdict.LATER),
    (answer(409), Verdict.LATER, Verdict.LATER),
    (answer(410, OURS), Verdict.GONE, Verdict.GONE),
    (answer(410), Verdict.GONE, Verdict.GONE),
    (Answer(410, {"content-type": "text/html"}, b"<h1>"), Verdict.LATER, Verdict.LATER),
    (answer(413), Verdict.REFUSED, Verdict.REFUSED),
    (answer(418), Verdict.LATER, Verdict.LATER),
    (answer(422), Verdict.REFUSED, Verdict.REFUSED),
    (answer(429), Verdict.LATER, Verdict.LATER),
    (answer(500), Verdict.LATER, Verdict.LATER),
    (answer(503), Verdict.LATER, Verdict.LATER),
    (answer(999), Verdict.LATER, Verdict.LATER),
]


@pytest.mark.parametrize(("said", "to_batch", "to_single"), VERDICTS)
def test_each_answer_has_one_meaning(said: Answer, to_batch: Verdict, to_single: Verdict) -> None:
    assert judge(said, batch=True) is to_batch
    assert judge(said, batch=False) is to_single


NOW = 1_795_358_656.0  # 2026-11-22T14:44:16Z

WAITS = [
    ("30", 30.0),
    (" 0 ", 0.0),
    ("9" * 400, 300.0),
    ("Sun, 22 Nov 2026 14:44:26 GMT", 10.0),
    ("Sun, 22 Nov 2026 14:44:06 GMT", 0.0),
    ("Mon, 22 Nov 2027 14:44:06 GMT", 300.0),
    ("", None),
    ("-5", None),
    ("1.5", None),
    ("³", None),
    ("soon", None),
    ("21 Oct 9999 07:28:00 999999999999999999999", None),
]


@pytest.mark.parametrize(("value", "seconds"), WAITS)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after(answer(503, **{"retry-after": value}), now=NOW) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_is_too_odd(value: str) -> None:
    wait = retry_after(answer(503, **{"retry-after": value}), now=NOW)
    assert wait is None or 0 <= wait <= 300


@given(st.integers(1, 10**6), st.integers())
def test_backoff_is_full_jitter_below_a_bound_that_doubles(attempt: int, seed: int) -> None:
    wait = backoff(attempt, first=0.2, longest=10, uniform=random.Random(seed).uniform)
    assert 0 <= wait <= min(10.0, 0.2 * 2 ** min(attempt - 1, 30))
    assert backoff(attempt, uniform=lambda low, high: high) == min(
        10.0, 0.2 * 2 ** min(attempt - 1, 30)
    )
    assert backoff(attempt, uniform=lambda low, high: low) == 0.0


def test_a_fleet_spreads_evenly_after_an_outage() -> None:
    rng = random.Random(7)
    waits = [backoff(7, uniform=rng.uniform) for _ in range(1000)]
    per_second = [sum(second <= wait < second + 1 for wait in waits) for second in range(10)]
    assert max(per_second) < 150


def test_a_quiet_agent_reports_at_once() -> None:
    budget = Budget(share=0.02, spare=0.0, burst=0.02)
    # The first pays for imports and the connection.
    assert budget.spend(1.0, now=0.0, used=1.0) == 0.0
    for second in range(1, 100):
        assert budget.spend(0.002, now=float(second), used=1.0 + 0.002 * second) == 0.0


def spent_in(seconds: float, budget: Budget, *, busy: float, load: Load = Load.CALM) -> float:
    """Return the part that is spent where there is much to tell and the host uses `busy`."""
    now, used, spent = 0.0, 0.0, 0.0
    budget.spend(0.001, now=now, used=used)
    while now < seconds:
        spent += 0.001
        pause = 0.001 + budget.spend(0.001, now=now, used=used, load=load)
        now += pause
        used += 0.001 + busy * pause
    return spent / now


def test_reporting_takes_its_share_of_a_busy_processor_and_no_more() -> None:
    spent = spent_in(100.0, Budget(share=0.02, spare=0.1, burst=0.02), busy=1.0)
    assert 0.019 < spent < 0.022


def test_reporting_takes_more_of_what_the_host_leaves() -> None:
    spent = spent_in(100.0, Budget(share=0.02, spare=0.1, burst=0.02), busy=0.5)
    assert 0.065 < spent < 0.075


@pytest.mark.parametrize("busy", [0.0, 0.5, 1.0])
def test_reporting_takes_its_share_alone_where_there_is_much_to_tell(busy: float) -> None:
    budget = Budget(share=0.02, spare=0.1, burst=0.02, rush=0.005)
    assert 0.019 < spent_in(100.0, budget, busy=busy, load=Load.BUSY) < 0.021
    assert 0.0049 < spent_in(100.0, budget, busy=busy, load=Load.RUSH) < 0.0051


def test_a_rush_has_no_burst_to_begin_with() -> None:
    budget = Budget(share=0.01, spare=0.1, burst=0.02)
    budget.spend(0.001, now=0.0, used=0.0)
    assert budget.spend(0.001, now=60.0, used=0.001, load=Load.BUSY) == pytest.approx(0.1)
    # And what a quiet time adds up to afterwards is there again.
    assert budget.spend(0.001, now=61.0, used=0.002) == 0.0
