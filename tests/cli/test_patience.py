"""How often a session that is watched is looked at."""

from __future__ import annotations

from itertools import accumulate, islice, pairwise

from opscore_middleware.cli.patience import pauses


def test_what_has_just_begun_is_looked_at_again_and_again() -> None:
    looks = list(accumulate(islice(pauses(), 10)))
    assert sum(look <= 1.3 for look in looks) >= 5


def test_what_lasts_is_looked_at_less_and_less_but_each_second() -> None:
    waits = list(islice(pauses(), 100))
    assert all(earlier <= later for earlier, later in pairwise(waits))
    assert waits[-1] == 1.0
