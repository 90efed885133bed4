"""Giving ready tasks to available instances, in PostgreSQL, while other replicas do the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import asyncpg

from opscore_middleware.core.runs.matching import match
from opscore_middleware.core.runs.records import Claim
from opscore_middleware.stores.postgres_connections import Connection, Connections
from opscore_middleware.stores.postgres_few_claims import FEW, Few, claim_few
from opscore_middleware.stores.postgres_giving import give
from opscore_middleware.stores.postgres_locks import CLAIMS
from opscore_middleware.stores.postgres_queues import (
    AGENT,
    CAPABILITY,
    QUEUES,
    first_tasks,
    waiting_of,
)
from opscore_middleware.stores.postgres_slots import Moment, Vacancies
from opscore_middleware.stores.postgres_tasks import RUNS
from opscore_middleware.stores.postgres_turns import FLEET, Fleet, Turns

__all__ = ["claim"]

_TRIES: Final = 3
_GROWTH: Final = 4


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

    Where only a few tasks wait, they are given out in passing. Else replicas claim one after the
    other: each takes the lock of claims, and knows then that nobody else gives slots away. It
    chooses, locks the sessions of what it has chosen, in the order of their keys as whoever changes
    runs does (`postgres_advances.RunWriter`), so that no two wait for each other in a circle, and
    leaves alone what was paused, cancelled or changed until then: it chooses again. A session that
    is not to be had for long, since its replica has stopped in the middle of a change, is passed
    over, so that it holds up no others.
    """
    if limit < 1:
        return []
    claims, has_more = Few([], has_more=True)
    if turns.given_last < FEW:  # else there are likely to be as many again
        async with connections.connection() as connection:
            claims, has_more = await claim_few(connection, turns, limit=limit, moment=moment)
    if has_more and len(claims) < limit:
        claims += await _claim_many(connections, turns, limit - len(claims), moment)
    return claims


async def _claim_many(
    connections: Connections, turns: Turns, limit: int, moment: Moment
) -> list[Claim]:
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
        if not rows:
            turns.expect(0)
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
        free = Vacancies(self._connection, self._turns, self._moment)
        waiting = await self._look(free)
        matches = match(map(waiting_of, waiting.values()), free.slots, limit=self._limit)
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
        claims = await give(self._connection, chosen, at=self._moment.kept) if chosen else []
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
        return await self._connection.fetch(
            _WAITING,
            *zip(*queues, strict=True),
            self._moment.latest,
            self._limit,
            list(self._passed),
        )


_QUEUES: Final = f"WITH {QUEUES} SELECT queue, {FLEET} FROM queues"  # noqa: S608 - constants

# Who waits for a session does so for a moment alone: changes of runs are quick, unless the replica
# that makes one has stopped.
_TAKE_TURN: Final = f"""
    SELECT pg_advisory_xact_lock({CLAIMS});
    SET LOCAL lock_timeout = '250ms'"""

_FIRST: Final = first_tasks(
    now="$3", limit="least(queues.slots, $4)", condition="t.session_key <> ALL($5::bigint[])"
)
_WAITING: Final = f"""
    SELECT first.* FROM unnest($1::text[], $2::bigint[]) AS queues (queue, slots)
    CROSS JOIN LATERAL ({_FIRST}) AS first"""  # noqa: S608 - made of constants

_LOCK: Final = f"""
    SELECT s.session_key, s.state FROM opscore.sessions AS s
    WHERE s.session_key = ANY($1::bigint[]) AND {RUNS}
    ORDER BY s.session_key FOR UPDATE"""  # noqa: S608 - made of constants
_LOCK_AT_ONCE: Final = f"{_LOCK} SKIP LOCKED"
