"""The watermark in SQLite, which says when somebody was listening."""

from __future__ import annotations

import sqlite3
from typing import Final

from opscore_middleware.core.liveness import Watermark, advance

__all__ = ["watermark"]


def watermark(connection: sqlite3.Connection, *, now: int) -> Watermark:
    """Move the watermark on within the transaction that is open, and return it."""
    row = connection.execute("SELECT since, seen_at FROM watermark").fetchone()
    mark = advance(None if row is None else Watermark(*row), now)
    connection.execute(_SET_WATERMARK, mark)
    return mark


_SET_WATERMARK: Final = """
    INSERT INTO watermark (watermark_key, since, seen_at) VALUES (1, ?, ?)
    ON CONFLICT DO UPDATE SET since = excluded.since, seen_at = excluded.seen_at"""
