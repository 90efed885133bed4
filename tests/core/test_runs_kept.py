"""Memory that lets go of what is oldest."""

from __future__ import annotations

from opscore_middleware.core.runs.kept import Kept


def test_no_more_is_kept_than_was_said_and_the_oldest_goes_first() -> None:
    kept: Kept[str, int] = Kept(2)
    kept["a"], kept["b"] = 1, 2
    kept["a"] = 3
    kept["c"] = 4
    assert kept == {"b": 2, "c": 4}
