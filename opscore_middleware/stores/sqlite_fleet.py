"""The fleet at a glance, in SQLite."""

from __future__ import annotations

import sqlite3
from typing import Final

from opscore_middleware.core.doubt import Census
from opscore_middleware.core.fleet import Headcount
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.stores.fleet_sql import (
    SQLITE,
    census_query,
    crews_query,
    forget_query,
    headcount,
    longest_silent_query,
    overdue_query,
)

__all__ = ["census", "count_fleet", "deregister_overdue", "forget_instances"]

_CENSUS: Final = census_query(SQLITE)
_CREWS: Final = crews_query(SQLITE)
_FORGET: Final = forget_query(SQLITE)
_LET_GO: Final = """
    DELETE FROM slots
    WHERE agent_id = (SELECT agent_id FROM agents WHERE agent_key = ?) AND instance_id = ?"""
_OVERDUE: Final = overdue_query(SQLITE)
_SILENT: Final = longest_silent_query(SQLITE)


def census(connection: sqlite3.Connection, *, before: Watermark, mark: Watermark) -> Census:
    """Keep `core.store.Store.census`'s promise."""
    return Census(*connection.execute(_CENSUS, before + mark).fetchone())


def deregister_overdue(connection: sqlite3.Connection, *, mark: Watermark, now: int) -> list[str]:
    """Keep `core.store.Store.deregister_overdue`'s promise within the open transaction."""
    return [agent_id for (agent_id,) in connection.execute(_OVERDUE, (*mark, now)).fetchall()]


def forget_instances(
    connection: sqlite3.Connection, *, mark: Watermark, before: int, now: int
) -> int:
    """Keep `core.store.Store.forget_instances`'s promise within the open transaction."""
    forgotten = connection.execute(_FORGET, (*mark, before, now)).fetchall()
    connection.executemany(_LET_GO, forgotten)
    return len(forgotten)


def count_fleet(connection: sqlite3.Connection, *, mark: Watermark) -> Headcount:
    """Keep `core.store.Store.headcount`'s promise."""
    crews = connection.execute(_CREWS, mark).fetchall()
    return headcount(crews, connection.execute(_SILENT).fetchone())
