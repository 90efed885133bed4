"""Giving ready tasks to available instances, in PostgreSQL, while other replicas do the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import asyncpg

from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.runs.matching import Waiting, match
from opscore_middleware.core.runs.records import Claim
from opscore_middleware.stores.postgres_connections import Connection, Connections
from opscore_middleware.stores.postgres_locks import CLAIMS
from opscore_middleware.stores.postgres_slots import AGENT, CAPABILITY, Vacancies, Vacancy
from opscore_middleware.stores.postgres_tasks import FIELDS, RUNS, task_of
from opscore_middleware.stores.postgres_turns import FLEET, Fleet, Turns

__all__ = ["Moment", "claim"]

_TRIES: Final = 3
_GROWTH: Final = 4


class Moment(NamedTuple):
    """When a claim is made, by the caller's clock and by the database's, and who was lost then."""

    now: int
    kept: int
    mark: Watermark | None


class _Attempt(NamedTuple):
    """What came of one try to claim: the claims, and what could not be had after all."""

    claims: list[Claim]
    missed: int
    passed: set[int]
    """The keys of sessions that do not run any more, or that somebody holds for long."""
    instance_keys: list[int]
    """Whom the tasks went to."""


_NOTHING: Final = _Attempt([], 0, set(), [])


async def claim(
    connections: Connections, turns: Turns, *, limit: int, moment: Moment
) -> list[Claim]:
    """Keep `core.runs.store.RunStore.claim`'s promise, on connections that look for keys.

    Replicas claim one after the other: each takes the lock of claims, and knows then that nobody
    else gives slots away. It chooses, locks the sessions of what it has chosen, in the order of
    their keys as whoever changes runs does (`postgres_advances.RunWriter`), so that no two wait for
    each other in a circle, and leaves alone what was paused, cancelled or changed until then: it
    chooses again. A session that is not to be had for long, since its replica has stopped in the
    middle of a change, is passed over, so that it holds up no others.
    """
    claims: list[Claim] = []
    passed: set[int] = set()
    for _ in range(_TRIES):
        attempt = await _try(connections, turns, limit - len(claims), moment, passed)
        claims += attempt.claims
        for instance_key in attempt.instance_keys:
            turns.given(instance_key, moment.kept)
        passed |= attempt.passed
        if not attempt.missed:
            break
    return claims


async def _try(
    connections: Connections, turns: Turns, limit: int, moment: Moment, passed: Collection[int]
) -> _Attempt:
    async with connections.connection() as connection:
        rows = await connection.fetch(_QUEUES)
        if not rows or limit < 1:
            return _NOTHING
        turns.notice(Fleet(rows[0]["last_instance"], rows[0]["updated_at"]))
        queues = [row["queue"] for row in rows]
        choosing = _Choosing(connection, turns, limit, moment, queues, passed)
        try:
            async with connection.transaction():
                return await choosing.claim(_LOCK)
        except asyncpg.LockNotAvailableError:
            async with connection.transaction():
                return await choosing.claim(_LOCK_AT_ONCE)


class _Choosing:
    """A claim within its transaction."""

    def __init__(
        self,
        connection: Connection,
        turns: Turns,
        limit: int,
        moment: Moment,
        queues: Sequence[str],
        passed: Collection[int],
    ) -> None:
        self._connection = connection
        self._turns = turns
        self._limit = limit
        self._moment = moment
        self._queues = queues
        self._passed = passed

    async def claim(self, lock: str) -> _Attempt:
        await self._connection.execute(_TAKE_TURN)
        free = Vacancies(
            self._connection, self._turns, mark=self._moment.mark, now=self._moment.kept
        )
        waiting = await self._look(free)
        tasks = (Waiting(*row[2:]) for row in waiting.values())
        matches = match(tasks, free.slots, limit=self._limit)
        self._turns.expect(len(matches))
        if not matches:
            return _NOTHING
        wanted = {waiting[m.task.task_key]["session_key"] for m in matches}
        locked = {row["session_key"] for row in await self._connection.fetch(lock, list(wanted))}
        chosen = {
            row["task_id"]: free.of(slot)
            for task, slot in matches
            if (row := waiting[task.task_key])["session_key"] in locked
        }
        claims = await self._give(chosen) if chosen else []
        return _Attempt(
            claims,
            len(matches) - len(claims),
            wanted - locked,
            [chosen[claim.task.task_id].instance_key for claim in claims],
        )

    async def _look(self, free: Vacancies) -> dict[int, asyncpg.Record]:
        """Find slots, and return the first tasks of each queue by their keys: more of both, as
        long as there may be tasks that no slot was looked for."""
        pinned = [q.removeprefix(AGENT) for q in self._queues if q.startswith(AGENT)]
        able = [q.removeprefix(CAPABILITY) for q in self._queues if q.startswith(CAPABILITY)]
        await free.find_of(pinned, wanted=self._limit)
        wanted = min(self._limit, self._turns.expected)
        while True:
            await free.find(able, wanted=wanted)
            waiting = {row["task_key"]: row for row in await self._waiting(free.counts())}
            if len(waiting) < wanted or wanted == self._limit or free.has_all(able):
                break
            wanted = min(self._limit, wanted * _GROWTH)
        if not free.has_all(able):
            # A session's own agent goes first, wherever it comes among the others.
            own = {row["agent_id"] for row in waiting.values() if row["pinned"] is None}
            await free.find_of(own, wanted=self._limit)
        return waiting

    async def _waiting(self, slots: Mapping[str, int]) -> list[asyncpg.Record]:
        """Return, of each queue, the first tasks, no more than there are slots for."""
        queues = [(queue, count) for queue in self._queues if (count := slots.get(queue))]
        if not queues:
            return []
        # By either clock: another replica, whose clock is behind, does not keep a task waiting.
        now = max(self._moment.now, self._moment.kept)
        return await self._connection.fetch(
            _WAITING, *zip(*queues, strict=True), now, self._limit, list(self._passed)
        )

    async def _give(self, chosen: Mapping[str, Vacancy]) -> list[Claim]:
        columns = zip(
            *(
                (task_id, endpoint.agent_id, endpoint.instance_id, endpoint.preferred)
                for task_id, (_, _, endpoint) in chosen.items()
            ),
            strict=True,
        )
        rows = await self._connection.fetch(_GIVE, *columns, self._moment.kept)
        given = {row["task_id"]: row for row in rows}
        return [
            Claim(task_of(row), endpoint, row["workflow_id"], row["traceparent"])
            for task_id, (_, _, endpoint) in chosen.items()
            if (row := given.get(task_id)) is not None
        ]


# The queues that are not empty, each found from the one before it, whatever is in them.
_QUEUES: Final = f"""
    WITH RECURSIVE queues AS (
        (SELECT queue FROM opscore.tasks WHERE state = 'ready' AND queue IS NOT NULL
         ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT t.queue FROM opscore.tasks AS t
                WHERE t.state = 'ready' AND t.queue > queues.queue ORDER BY t.queue LIMIT 1)
        FROM queues WHERE queue IS NOT NULL
    )
    SELECT queue, {FLEET} FROM queues WHERE queue IS NOT NULL"""  # noqa: S608 - made of constants

# Who waits for a session does so for a moment alone: changes of runs are quick, unless the replica
# that makes one has stopped.
_TAKE_TURN: Final = f"""
    SELECT pg_advisory_xact_lock({CLAIMS});
    SET LOCAL lock_timeout = '250ms'"""

_WAITING: Final = f"""
    SELECT first.* FROM unnest($1::text[], $2::bigint[]) AS queues (queue, slots)
    CROSS JOIN LATERAL (
        SELECT t.task_id, t.session_key, t.task_key, t.pinned, t.capability, t.priority, t.ready_at,
               t.created_at, own.agent_id
        FROM opscore.tasks AS t
        JOIN opscore.sessions AS s ON s.session_key = t.session_key
        JOIN opscore.agents AS own ON own.agent_key = s.agent_key
        WHERE t.state = 'ready' AND t.queue = queues.queue AND t.ready_at <= $3 AND {RUNS}
          AND t.session_key <> ALL($5::bigint[])
        ORDER BY t.priority DESC, t.ready_at, t.created_at, t.task_key
        LIMIT least(queues.slots, $4)) AS first"""  # noqa: S608 - made of constants

_LOCK: Final = f"""
    SELECT s.session_key, s.state FROM opscore.sessions AS s
    WHERE s.session_key = ANY($1::bigint[]) AND {RUNS}
    ORDER BY s.session_key FOR UPDATE"""  # noqa: S608 - made of constants
_LOCK_AT_ONCE: Final = f"{_LOCK} SKIP LOCKED"

# The slots' rows in the order of their keys, as whoever notes what was stopped has them. States are
# compared in words that let no index of them take the place of that of the keys.
_GIVE: Final = f"""
    WITH given AS (
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
            AS chosen (task_id, agent_id, instance_id, route)
        WHERE t.task_id = chosen.task_id AND t.state IN ('ready', '')
        RETURNING t.*
    ), noted AS (
        INSERT INTO opscore.slots (agent_id, instance_id, given_at)
        SELECT agent_id, instance_id, $5 FROM given ORDER BY agent_id, instance_id
        ON CONFLICT (agent_id, instance_id) DO UPDATE SET
            given_at = excluded.given_at, stopped = NULL, stopped_at = NULL
    ), begun AS (
        UPDATE opscore.sessions AS s SET state = 'running', updated_at = $5
        FROM given
        WHERE s.session_key = given.session_key AND s.state IS NOT DISTINCT FROM 'started'
    )
    SELECT {FIELDS}, s.workflow_id, s.traceparent
    FROM given AS t JOIN opscore.sessions AS s ON s.session_key = t.session_key
    """  # noqa: S608 - made of constants
