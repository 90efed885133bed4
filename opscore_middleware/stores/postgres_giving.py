"""Giving chosen tasks to the slots that were chosen for them, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import asyncpg

from opscore_middleware.core.runs.records import Claim
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_locks import CLAIMS
from opscore_middleware.stores.postgres_slots import Vacancy
from opscore_middleware.stores.postgres_tasks import FIELDS, IS_OPEN, RUNS, task_of

__all__ = ["Chosen", "give", "give_at_once"]

Chosen = Mapping[str, Vacancy]
"""The slots that tasks are to have, by the tasks' ids; one task at least."""


async def give(connection: Connection, chosen: Chosen, *, at: int) -> list[Claim]:
    """Give tasks whose sessions are locked, in a transaction that has the lock of claims.

    Those that have changed until then are left alone.
    """
    return _claims(chosen, await connection.fetch(_GIVE, *_columns(chosen, at)))


async def give_at_once(
    connection: Connection, chosen: Chosen, session_keys: Collection[int], *, at: int
) -> list[Claim]:
    """Give tasks in a transaction of one statement, which waits for nobody.

    Those that have changed until then are left alone, those of sessions that somebody holds too,
    and all where somebody else is about to claim. Raises `asyncpg.UniqueViolationError`, and gives
    none, where a slot was filled at the same moment.
    """
    values = (*_columns(chosen, at), list(session_keys))
    return _claims(chosen, await connection.fetch(_GIVE_AT_ONCE, *values))


def _columns(chosen: Chosen, at: int) -> tuple[object, ...]:
    columns = zip(
        *(
            (task_id, endpoint.agent_id, endpoint.instance_id, endpoint.preferred)
            for task_id, (_, _, endpoint) in chosen.items()
        ),
        strict=True,
    )
    return (*columns, at)


def _claims(chosen: Chosen, rows: Collection[asyncpg.Record]) -> list[Claim]:
    given = {row["task_id"]: row for row in rows}
    return [
        Claim(task_of(row), endpoint, row["workflow_id"], row["traceparent"])
        for task_id, (_, _, endpoint) in chosen.items()
        if (row := given.get(task_id)) is not None
    ]


# States are compared in words that let no index of them take the place of that of the keys.
_GIVEN: Final = """
        UPDATE opscore.tasks AS t SET
            state = 'dispatched',
            attempt = t.attempt + 1,
            agent_id = chosen.agent_id,
            instance_id = chosen.instance_id,
            route = chosen.route,
            rerouted = false,
            stopped = false,
            dispatched_at = $5,
            deadline_at = least($5 + t.start_within, t.close_by)
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
            AS chosen (task_id, agent_id, instance_id, route)"""
_IS_READY: Final = "t.task_id = chosen.task_id AND t.state IN ('ready', '')"

# The slots' rows in the order of their keys, as whoever notes what was stopped has them.
_NOTED: Final = """
    noted AS (
        INSERT INTO opscore.slots (agent_id, instance_id, given_at)
        SELECT agent_id, instance_id, $5 FROM given ORDER BY agent_id, instance_id
        ON CONFLICT (agent_id, instance_id) DO UPDATE SET
            given_at = excluded.given_at, stopped = NULL, stopped_at = NULL
    ), begun AS (
        UPDATE opscore.sessions AS s SET state = 'running', updated_at = $5
        FROM given
        WHERE s.session_key = given.session_key AND s.state IS NOT DISTINCT FROM 'started'
    )"""

_GIVE: Final = f"""
    WITH given AS ({_GIVEN}
        WHERE {_IS_READY}
        RETURNING t.*
    ), {_NOTED}
    SELECT {FIELDS}, s.workflow_id, s.traceparent
    FROM given AS t JOIN opscore.sessions AS s ON s.session_key = t.session_key
    """  # noqa: S608 - made of constants

# Whatever changes a row is joined to `locked`, and so comes after it. The statement may see what
# was there just before it had the lock; but rows are changed as they are, and the index of open
# attempts lets nobody have a slot twice.
_GIVE_AT_ONCE: Final = f"""
    WITH locked AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock({CLAIMS}) AS is_ours
    ), held AS MATERIALIZED (
        SELECT s.session_key, s.session_id, s.workflow_id, s.traceparent
        FROM locked JOIN opscore.sessions AS s ON s.session_key = ANY($6::bigint[])
        WHERE locked.is_ours AND {RUNS}
        ORDER BY s.session_key FOR UPDATE OF s SKIP LOCKED
    ), given AS ({_GIVEN}
        JOIN held AS s ON true
        WHERE {_IS_READY} AND t.session_key = s.session_key
          AND NOT EXISTS (
              SELECT FROM opscore.tasks AS t
              WHERE {IS_OPEN} AND t.agent_id = chosen.agent_id
                AND t.instance_id = chosen.instance_id
              OFFSET 0)
        RETURNING t.*
    ), {_NOTED}
    SELECT {FIELDS}, s.workflow_id, s.traceparent
    FROM given AS t JOIN held AS s ON s.session_key = t.session_key
    """  # noqa: S608 - made of constants
