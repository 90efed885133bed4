"""What was created under an `Idempotency-Key` in SQLite: once, and answered alike again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

from opscore_middleware.core.runs.records import Creation, Repeated
from opscore_middleware.core.runs.refusals import other_request

__all__ = ["created"]

T = TypeVar("T")


def created(
    connection: sqlite3.Connection,
    *,
    create: Callable[[sqlite3.Connection], T],
    creation: Creation | None,
    now: int,
) -> T:
    """Create within the open transaction what was not yet created under the key, and keep the
    answer.

    Raises `Repeated` where the same was, and `IdempotencyMismatch` where something else was.
    """
    if creation is None:
        return create(connection)
    connection.execute("DELETE FROM creations WHERE until <= ?", (now,))
    kept = connection.execute(_KEPT, (creation.key,)).fetchone()
    if kept is not None:
        if kept["fingerprint"] != creation.fingerprint:
            raise other_request()
        raise Repeated(kept["answer"])
    made = create(connection)
    answer = creation.answer(made)
    connection.execute(_KEEP, (creation.key, creation.fingerprint, answer, creation.until))
    return made


_KEPT: Final = "SELECT fingerprint, answer FROM creations WHERE key = ?"
_KEEP: Final = "INSERT INTO creations (key, fingerprint, answer, until) VALUES (?, ?, ?, ?)"
