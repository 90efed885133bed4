"""Time as microseconds, exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.core.clock import SECOND, from_micros, system_clock, to_micros


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_moment_survives_the_round_trip(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment


@given(st.integers(-(10**15), 10**16))
def test_every_count_survives_the_round_trip(micros: int) -> None:
    assert to_micros(from_micros(micros)) == micros


def test_an_offset_is_taken_into_account() -> None:
    moment = datetime(1970, 1, 1, 2, 0, 1, tzinfo=timezone(timedelta(hours=2)))
    assert to_micros(moment) == SECOND


def test_the_machine_s_clock_counts_microseconds_of_this_century() -> None:
    assert from_micros(system_clock()).year >= 2024
