"""Changing many rows of a table in SQLite at once, each in its own way."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

__all__ = ["update"]

_LARGEST: Final = 4096
"""Values of one statement; more take another."""


def update(
    connection: sqlite3.Connection,
    table: str,
    columns: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
) -> None:
    """Write rows of values for these columns, the first of which tells the row to change.

    All in one statement, which SQLite gets ready to undo but once, and which runs without Python's
    global lock. To get ready takes several times as long as the change where there is a trigger,
    whether that does something or not.
    """
    width = len(columns)
    most = 1 << (_LARGEST // width).bit_length() - 1
    for start in range(0, len(rows), most):
        some = rows[start : start + most]
        size = 1 << (len(some) - 1).bit_length()  # few sizes, so that statements are met again
        padding = (None,) * (width * (size - len(some)))
        values = (*chain.from_iterable(some), *padding)
        connection.execute(_statement(table, columns, size), values)


@cache
def _statement(table: str, columns: tuple[str, ...], size: int) -> str:
    """Return the statement that changes so many rows; those without a key are none."""
    key, *others = columns
    row = f"({', '.join('?' * len(columns))})"
    assigned = ", ".join(f"{column} = new.{column}" for column in others)
    return f"""
        WITH new ({", ".join(columns)}) AS (VALUES {", ".join([row] * size)})
        UPDATE {table} SET {assigned} FROM new
        WHERE {table}.{key} = new.{key}"""  # noqa: S608 - names of tables and columns
