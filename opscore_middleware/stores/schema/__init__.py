"""The numbered steps that bring a database's schema up to date, and how far one has come."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import PurePath
from typing import NamedTuple

from opscore_middleware.core.models import Wire

__all__ = ["SchemaStatus", "Step", "status_of", "steps"]


class Step(NamedTuple):
    """One released change of the schema: the version that it leads to, its SQL, and its name."""

    version: int
    sql: str
    name: str = ""


class SchemaStatus(Wire):
    """How far a database's schema has come.

    `address` holds no password, `found` is 0 where there is no schema yet, `wanted` is the version
    that this release works with, and `missing` names the steps between.
    """

    store: str
    address: str
    found: int
    wanted: int
    missing: list[str]


def steps(dialect: str) -> list[Step]:
    """Return all steps of a dialect in order; `0001_initial.sql` leads to version 1."""
    found = [
        Step(
            version=int(file.name.partition("_")[0]),
            sql=file.read_text(encoding="utf-8"),
            name=PurePath(file.name).stem,
        )
        for file in files(__name__).joinpath(dialect).iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found)


def status_of(store: str, address: str, *, found: int, known: Sequence[Step]) -> SchemaStatus:
    """Return what is missing of the steps that this release knows."""
    return SchemaStatus(
        store=store,
        address=address,
        found=found,
        wanted=known[-1].version,
        missing=[step.name for step in known if step.version > found],
    )
