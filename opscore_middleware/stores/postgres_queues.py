"""What ready tasks wait for in PostgreSQL, and which of them come first."""

from __future__ import annotations

from typing import Final

import asyncpg

from opscore_middleware.core.runs.matching import Waiting
from opscore_middleware.stores.postgres_tasks import RUNS

__all__ = ["AGENT", "CAPABILITY", "QUEUES", "first_tasks", "waiting_of"]

AGENT: Final = "agent "
CAPABILITY: Final = "capability "
"""What a queue's name begins with, before whom its tasks wait for."""


def waiting_of(row: asyncpg.Record) -> Waiting:
    """Read a row of `first_tasks`."""
    return Waiting(
        row["task_key"],
        row["pinned"],
        row["capability"],
        row["priority"],
        row["ready_at"],
        row["created_at"],
        row["agent_id"],
    )


def first_tasks(*, now: str, limit: str, condition: str = "true") -> str:
    """Return the query for the first tasks of one of `queues` that can be given out now."""
    return f"""
        SELECT t.task_id, t.session_key, t.task_key, t.pinned, t.capability, t.priority, t.ready_at,
               t.created_at, own.agent_id
        FROM opscore.tasks AS t
        JOIN opscore.sessions AS s ON s.session_key = t.session_key
        JOIN opscore.agents AS own ON own.agent_key = s.agent_key
        WHERE t.state = 'ready' AND t.queue = queues.queue AND t.ready_at <= {now} AND {RUNS}
          AND {condition}
        ORDER BY t.priority DESC, t.ready_at, t.created_at, t.task_key
        LIMIT {limit}"""  # noqa: S608 - made of constants


QUEUES: Final = """
    RECURSIVE every AS (
        (SELECT queue FROM opscore.tasks WHERE state = 'ready' AND queue IS NOT NULL
         ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT t.queue FROM opscore.tasks AS t
                WHERE t.state = 'ready' AND t.queue > every.queue ORDER BY t.queue LIMIT 1)
        FROM every WHERE queue IS NOT NULL
    ), queues AS (SELECT queue FROM every WHERE queue IS NOT NULL)"""
"""Defines `queues`, those that are not empty, after `WITH`: each is found from the one before it,
whatever is in them."""
