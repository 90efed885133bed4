"""The numbered steps that bring a database's schema up to date."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

__all__ = ["Step", "steps"]


class Step(NamedTuple):
    """One released change of the schema: the version that it leads to, and its SQL."""

    version: int
    sql: str


def steps(dialect: str) -> list[Step]:
    """Return all steps of a dialect in order; `0001_initial.sql` leads to version 1."""
    found = [
        Step(int(file.name.partition("_")[0]), file.read_text(encoding="utf-8"))
        for file in files(__name__).joinpath(dialect).iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found)
