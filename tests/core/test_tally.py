"""How fast reports came in, over the last minute and no longer."""

from __future__ import annotations

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.tally import Tally


def looked_at(*rates: int) -> Tally:
    """A tally that was looked at each second, with so many reports in each."""
    tally = Tally()
    tally.look(0)
    for second, rate in enumerate(rates, 1):
        tally.accepted += rate
        tally.look(second * SECOND)
    return tally


def test_a_rate_needs_two_looks() -> None:
    assert looked_at().reports_per_second == 0.0
    assert looked_at(8).reports_per_second == 8.0


def test_a_rate_is_what_came_in_the_last_minute() -> None:
    assert looked_at(*[10] * 30).reports_per_second == 10.0
    assert looked_at(*[1000] * 100, *[10] * 60).reports_per_second == 10.0
    assert looked_at(*[10] * 100, *[0] * 60).reports_per_second == 0.0


def test_a_clock_that_is_set_back_begins_anew() -> None:
    tally = looked_at(*[10] * 30)
    tally.look(5 * SECOND)
    assert tally.reports_per_second == 0.0
    tally.accepted += 7
    tally.look(6 * SECOND)
    assert tally.reports_per_second == 7.0
