"""Counting the fleet in SQL, for both stores: their dialects differ in a few words alone.

The rules are those of `core.liveness`, and tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from opscore_middleware.core.fleet import Crew, Headcount, Member, Unseen
from opscore_middleware.core.liveness import DEAF_AFTER, LATE_AFTER, LATE_GRACE, LOST_AFTER
from opscore_middleware.core.models import Liveness
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.rows import NO_INSTANCE, PRESENT

__all__ = [
    "POSTGRES",
    "SQLITE",
    "Dialect",
    "census_query",
    "crews_query",
    "forget_query",
    "headcount",
    "longest_silent_query",
    "overdue_query",
]

_FINISHED: Final = f"i.state = '{AgentState.FINISHED}'"
_CODES: Final = {"a": Liveness.ALIVE, "l": Liveness.LATE, "x": Liveness.LOST}
_ALONE: Final = ""  # agents without any instance


class Dialect(NamedTuple):
    """The words in which SQLite and PostgreSQL differ."""

    parameter: str
    schema: str
    join: str
    lock: str
    """Locks what is selected, in the order of the query: whoever locks in another one may come to
    wait for us as we wait for it."""
    lock_instances: str
    """The same for instances `i` alone."""


SQLITE: Final = Dialect("?", "", "group_concat(entry, ',')", "", "")
POSTGRES: Final = Dialect(
    "$",
    "opscore.",
    "string_agg(entry, ',' ORDER BY place)",
    "FOR NO KEY UPDATE",
    "FOR NO KEY UPDATE OF i",
)


def lost(dialect: Dialect, since: int, seen_at: int, *, longer: str = "0") -> str:
    """Say that an instance `i` is lost; the parameters with these numbers are the watermark.

    `longer` is for how long it must have been, in microseconds of SQL.
    """
    silence = f"({_silence(dialect, since, seen_at)} - {longer})"
    return (
        f"(i.interval IS NOT NULL AND NOT {_FINISHED}"
        f" AND {silence} > {LOST_AFTER} * i.interval"
        f" AND {silence} > 2 * i.interval + {DEAF_AFTER})"
    )


def late(dialect: Dialect, since: int, seen_at: int) -> str:
    """Say that an instance `i` is late, or lost."""
    silence = _silence(dialect, since, seen_at)
    return (
        f"(i.interval IS NOT NULL AND NOT {_FINISHED}"
        f" AND 2 * {silence} > {round(2 * LATE_AFTER)} * i.interval"
        f" AND {silence} > i.interval + {LATE_GRACE})"
    )


def crews_query(dialect: Dialect) -> str:
    """Return the query for `crews`: its parameters are the watermark, its rows (crew, agents)."""
    return f"""
        SELECT crew, count(*) FROM (
            SELECT agent_key, {dialect.join} AS crew FROM (
                SELECT a.agent_key,
                       CASE WHEN i.instance_id = '{NO_INSTANCE}' THEN '-' ELSE '+' END
                       || CASE WHEN {lost(dialect, 1, 2)} THEN 'x'
                               WHEN {late(dialect, 1, 2)} THEN 'l' ELSE 'a' END
                       || i.state AS entry,
                       row_number() OVER (ORDER BY a.agent_key, i.last_seen_at, i.instance_key)
                           AS place
                FROM {dialect.schema}agents AS a
                LEFT JOIN {dialect.schema}instances AS i
                    ON i.agent_key = a.agent_key AND {PRESENT}
                WHERE a.deregistered_at IS NULL
                ORDER BY a.agent_key, i.last_seen_at, i.instance_key) AS entries
            GROUP BY agent_key) AS crews
        GROUP BY crew"""  # noqa: S608 - made of constants


def census_query(dialect: Dialect) -> str:
    """Return the query for `core.doubt.Census`; its parameters are the watermark before and now."""
    return f"""
        SELECT count(*),
               count(CASE WHEN {late(dialect, 3, 4)} THEN 1 END),
               count(CASE WHEN {lost(dialect, 3, 4)} THEN 1 END),
               coalesce(max(CASE WHEN {late(dialect, 3, 4)} THEN i.interval END), 0)
        FROM {dialect.schema}instances AS i
        JOIN {dialect.schema}agents AS a ON a.agent_key = i.agent_key
        WHERE a.deregistered_at IS NULL AND i.interval IS NOT NULL AND NOT {_FINISHED}
          AND {PRESENT} AND NOT {lost(dialect, 1, 2)}"""  # noqa: S608 - made of constants


def overdue_query(dialect: Dialect) -> str:
    """Return what takes out who is overdue; its parameters are the watermark and now."""
    unfinished = (
        f"FROM {dialect.schema}instances AS i WHERE i.agent_key = a.agent_key AND {PRESENT}"
    )
    long_lost = lost(dialect, 1, 2, longer="a.deregister_after")
    return f"""
        UPDATE {dialect.schema}agents SET deregistered_at = {dialect.parameter}3
        WHERE agent_key IN (
            SELECT a.agent_key FROM {dialect.schema}agents AS a
            WHERE a.deregister_after IS NOT NULL AND a.deregistered_at IS NULL
              AND EXISTS (SELECT 1 {unfinished} AND NOT {_FINISHED})
              AND NOT EXISTS (SELECT 1 {unfinished} AND NOT {_FINISHED} AND NOT {long_lost})
            ORDER BY a.agent_key {dialect.lock})
        RETURNING agent_id"""  # noqa: S608 - made of constants


def forget_query(dialect: Dialect) -> str:
    """Return what lets go of old instances; its parameters are the watermark, before and now.

    An agent's latest is found once, not for each of its instances: it may have had very many.
    """
    before, now = (f"{dialect.parameter}{n}" for n in (3, 4))
    is_old = f"i.last_seen_at < {before} AND {PRESENT} AND ({_FINISHED} OR {lost(dialect, 1, 2)})"
    return f"""
        WITH latest AS (
            SELECT * FROM (
                SELECT l.agent_key, l.last_seen_at, l.instance_key, row_number() OVER (
                    PARTITION BY l.agent_key
                    ORDER BY l.last_seen_at DESC, l.instance_key DESC) AS place
                FROM {dialect.schema}instances AS l
                WHERE l.instance_id <> '{NO_INSTANCE}' AND l.state <> '{AgentState.UNKNOWN}'
                  AND l.agent_key IN (
                      SELECT i.agent_key FROM {dialect.schema}instances AS i WHERE {is_old})
            ) AS placed WHERE place = 1
        )
        UPDATE {dialect.schema}instances SET forgotten_at = {now}
        WHERE instance_key IN (
            SELECT i.instance_key FROM {dialect.schema}instances AS i
            LEFT JOIN latest ON latest.agent_key = i.agent_key
            WHERE {is_old}
              AND (i.state = '{AgentState.UNKNOWN}'
                   OR (latest.last_seen_at, latest.instance_key) > (i.last_seen_at, i.instance_key))
            ORDER BY i.agent_key, i.instance_id {dialect.lock_instances})
        RETURNING agent_key, instance_id"""  # noqa: S608 - made of constants


def longest_silent_query(dialect: Dialect) -> str:
    """Return the query for who was heard of longest ago, of those that send heartbeats."""
    return f"""
        SELECT a.agent_id, a.agent_name, i.instance_id, i.last_seen_at
        FROM {dialect.schema}instances AS i
        JOIN {dialect.schema}agents AS a ON a.agent_key = i.agent_key
        WHERE a.deregistered_at IS NULL AND i.interval IS NOT NULL AND NOT {_FINISHED}
          AND {PRESENT}
        ORDER BY i.last_seen_at, i.instance_key LIMIT 1"""  # noqa: S608 - made of constants


def headcount(crews: Iterable[Any], silent: Any | None) -> Headcount:
    """Read the rows of both queries."""
    return Headcount(
        [Crew(agents, _members(crew or _ALONE)) for crew, agents in crews],
        None if silent is None else Unseen(*silent),
    )


def _members(crew: str) -> tuple[Member, ...]:
    if crew == _ALONE:
        return ()
    return tuple(Member(entry[0] == "+", _CODES[entry[1]], entry[2:]) for entry in crew.split(","))


def _silence(dialect: Dialect, since: int, seen_at: int) -> str:
    begins, ends = (f"CAST({dialect.parameter}{n} AS bigint)" for n in (since, seen_at))
    return f"({ends} - CASE WHEN i.last_seen_at > {begins} THEN i.last_seen_at ELSE {begins} END)"
