"""What was created under an `Idempotency-Key` in PostgreSQL: once, and answered alike again."""

from __future__ import annotations

from typing import Any, Final

from opscore_middleware.core.runs.records import Creation, Repeated
from opscore_middleware.core.runs.refusals import other_request
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_locks import CREATION

__all__ = ["keep", "refuse_repeats"]


async def refuse_repeats(connection: Connection, creation: Creation | None, *, now: int) -> None:
    """Take the turn of a key, to the end of the open transaction, and see that it is unused.

    Raises `Repeated` where the same was created under it, and `IdempotencyMismatch` where something
    else was.
    """
    if creation is None:
        return
    # Whoever else uses the key at the same time waits here, and then finds what was created.
    await connection.execute(_LOCK, creation.key)
    await connection.execute(_FORGET, now)
    kept = await connection.fetchrow(_KEPT, creation.key, now)
    if kept is None:
        return
    if kept["fingerprint"] != creation.fingerprint:
        raise other_request()
    raise Repeated(kept["answer"])


async def keep(connection: Connection, creation: Creation | None, created: Any) -> None:
    """Keep how a creation is answered, within its transaction."""
    if creation is None:
        return
    await connection.execute(
        _KEEP, creation.key, creation.fingerprint, creation.answer(created), creation.until
    )


_LOCK: Final = f"SELECT pg_advisory_xact_lock({CREATION}, hashtext($1))"
_KEPT: Final = """
    SELECT fingerprint, answer FROM opscore.creations WHERE key = $1 AND until > $2"""

# What is over goes with the next that comes; what another transaction takes away is left to it.
_FORGET: Final = """
    DELETE FROM opscore.creations WHERE key IN (
        SELECT key FROM opscore.creations WHERE until <= $1
        ORDER BY until LIMIT 100 FOR UPDATE SKIP LOCKED)"""
_KEEP: Final = """
    INSERT INTO opscore.creations (key, fingerprint, answer, until) VALUES ($1, $2, $3, $4)
    ON CONFLICT (key) DO UPDATE SET
        fingerprint = excluded.fingerprint, answer = excluded.answer, until = excluded.until"""
