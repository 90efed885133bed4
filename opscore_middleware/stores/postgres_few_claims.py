"""Giving tasks out in PostgreSQL where only a few wait: nobody's turn is waited for."""

from __future__ import annotations

from typing import Final, NamedTuple

import asyncpg

from opscore_middleware.core.runs.matching import match
from opscore_middleware.core.runs.records import Claim
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_giving import give_at_once
from opscore_middleware.stores.postgres_queues import (
    AGENT,
    CAPABILITY,
    QUEUES,
    first_tasks,
    waiting_of,
)
from opscore_middleware.stores.postgres_slots import Moment, Vacancies
from opscore_middleware.stores.postgres_turns import FLEET, Fleet, Turns

__all__ = ["FEW", "Few", "claim_few"]

FEW: Final = 16
"""As many tasks are more than a few."""

_FEWEST_SLOTS: Final = 4


class Few(NamedTuple):
    """What was claimed, and whether there may be more to claim for those who take their turn."""

    claims: list[Claim]
    has_more: bool


async def claim_few(connection: Connection, turns: Turns, *, limit: int, moment: Moment) -> Few:
    """Claim what waits, at most `limit`, in three statements, each a transaction of its own.

    Nothing is done where more than a few tasks wait, or where others claim at the same moment: to
    choose without the lock of claims is to choose the same as they do.
    """
    rows = await connection.fetch(_WAITING, moment.latest, FEW)
    if not rows or len(rows) == FEW:
        return Few([], has_more=bool(rows))
    turns.notice(Fleet(rows[0]["last_instance"], rows[0]["updated_at"]))
    free = Vacancies(connection, turns, moment)
    await free.find(
        {row["capability"] for row in rows if row["queue"].startswith(CAPABILITY)},
        wanted=max(_FEWEST_SLOTS, len(rows)),
        # A session's own agent goes first, wherever it comes among the others.
        agent_ids={
            row["pinned"] if row["queue"].startswith(AGENT) else row["agent_id"] for row in rows
        },
    )
    waiting = {row["task_key"]: row for row in rows}
    matches = match(map(waiting_of, rows), free.slots, limit=limit)
    if not matches:
        return Few([], has_more=False)
    chosen = {waiting[task.task_key]["task_id"]: free.of(slot) for task, slot in matches}
    session_keys = {waiting[task.task_key]["session_key"] for task, _ in matches}
    try:
        claims = await give_at_once(connection, chosen, session_keys, at=moment.kept)
    except asyncpg.UniqueViolationError:
        return Few([], has_more=True)
    for claim in claims:
        turns.given(chosen[claim.task.task_id].instance_key, moment.kept)
    return Few(claims, has_more=len(claims) < len(matches))


_WAITING: Final = f"""
    WITH {QUEUES}
    SELECT queues.queue, {FLEET}, first.*
    FROM queues CROSS JOIN LATERAL ({first_tasks(now="$1", limit="$2")}) AS first
    LIMIT $2"""  # noqa: S608 - made of constants
