"""How spans of time are written."""

from __future__ import annotations

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("15m", 900), ("2h", 7200), ("90d", 7_776_000), ("45", 45), (" 1.5 h ", 5400)],
)
def test_a_span_is_read_in_its_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds * SECOND


@pytest.mark.parametrize("text", ["", "h", "-1h", "0s", "2 weeks", "1e3s", "٣s", "999999d", "nan"])
def test_what_is_no_span_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="90d") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)
