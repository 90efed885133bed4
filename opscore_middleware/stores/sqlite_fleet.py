"""The fleet at a glance, in SQLite."""

from __future__ import annotations

import sqlite3
from typing import Final

from opscore_middleware.core.fleet import Headcount
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.stores.fleet_sql import (
    SQLITE,
    crews_query,
    headcount,
    longest_silent_query,
)

__all__ = ["count_fleet"]

_CREWS: Final = crews_query(SQLITE)
_SILENT: Final = longest_silent_query(SQLITE)


def count_fleet(connection: sqlite3.Connection, *, mark: Watermark) -> Headcount:
    """Keep `core.store.Store.headcount`'s promise."""
    crews = connection.execute(_CREWS, mark).fetchall()
    return headcount(crews, connection.execute(_SILENT).fetchone())
