"""What a row of the table says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Trap"]


class Trap(NamedTuple):
    """One trap, what holds here in spite of it, and the tests that show it."""

    trap: str
    holds: str
    shown_by: Mapping[str, Sequence[str]]
    """Tests, without their parameters, by file below `tests/`."""

    @property
    def tests(self) -> list[tuple[str, str]]:
        """Each test with its file."""
        return [(file, name) for file, names in self.shown_by.items() for name in names]
