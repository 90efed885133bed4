"""Slots that are free in PostgreSQL: of available instances that hold no attempt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import asyncpg

from opscore_middleware.core.liveness import NEVER, Watermark
from opscore_middleware.core.runs.availability import QUIET_AFTER_ERROR, is_available
from opscore_middleware.core.runs.matching import Slot
from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.fleet_sql import POSTGRES, late
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_endpoints import URL, endpoint_of
from opscore_middleware.stores.postgres_queues import AGENT, CAPABILITY
from opscore_middleware.stores.postgres_tasks import IS_OPEN
from opscore_middleware.stores.postgres_turns import JUST_NOW, LATELY, Turns
from opscore_middleware.stores.rows import NO_INSTANCE, PRESENT, instance_record

__all__ = ["Moment", "Vacancies", "Vacancy"]

_GROWTH: Final = 4


class Moment(NamedTuple):
    """When a claim is made, by the caller's clock and by the database's, and who was lost then."""

    now: int
    kept: int
    mark: Watermark | None

    @property
    def latest(self) -> int:
        """By either clock: another replica, whose clock is behind, keeps no task waiting."""
        return max(self.now, self.kept)


class Vacancy(NamedTuple):
    """A slot that is free, and whose it is."""

    slot: Slot
    instance_key: int
    endpoint: Endpoint


class Vacancies:
    """The free slots that a claim has found.

    Args:
        connection: is the claim's.
        turns: says who comes first.
        moment: when the claim is made.
    """

    def __init__(self, connection: Connection, turns: Turns, moment: Moment) -> None:
        self._connection = connection
        self._turns = turns
        self._mark = moment.mark
        self._now = moment.kept
        self._looked_at: set[int] = set()
        self._found: dict[int, Vacancy] = {}
        self._keys: dict[tuple[str, str], int] = {}
        self._able: dict[str, frozenset[str]] = {}
        self._complete: set[str] = set()

    @property
    def slots(self) -> list[Slot]:
        return [vacancy.slot for vacancy in self._found.values()]

    def of(self, slot: Slot) -> Vacancy:
        """Return what was found of a slot."""
        return self._found[self._keys[slot[:2]]]

    def has_all(self, capabilities: Iterable[str]) -> bool:
        """Tell whether there are no more slots for any of these capabilities."""
        return self._complete.issuperset(capabilities)

    def counts(self) -> Mapping[str, int]:
        """Count the slots that each queue could be served by."""
        counts: Counter[str] = Counter()
        for vacancy in self._found.values():
            counts[AGENT + vacancy.slot.agent_id] += 1
            for capability in vacancy.slot.capabilities:
                counts[CAPABILITY + capability] += 1
        return counts

    async def find(
        self, capabilities: Collection[str], *, wanted: int, agent_ids: Collection[str] = ()
    ) -> None:
        """Find as many slots for each of these capabilities, or all: of those whose turn it is.

        And as many of each of these agents, as `find_of` does, on the way.
        """
        left = [one for one in capabilities if one not in self._complete]
        await self._turns.read(self._connection, left, since=self._now - LATELY, now=self._now)
        depth = dict.fromkeys(left, wanted)
        while depth:
            first = {one: self._turns.first(one, count) for one, count in depth.items()}
            new = {key for keys in first.values() for key in keys}
            if await self._look(new, agent_ids, wanted=wanted):
                agent_ids = ()
                continue  # the order may be another, by what was found
            short = {
                one: len(keys) < depth[one]
                for one, keys in first.items()
                if sum(key in self._found for key in keys) < wanted
            }
            await self._find_all([one for one, is_all in short.items() if is_all])
            depth = {one: depth[one] * _GROWTH for one, is_all in short.items() if not is_all}
        await self.find_of(agent_ids, wanted=wanted)

    async def find_of(self, agent_ids: Collection[str], *, wanted: int) -> None:
        """Find as many slots of each of these agents, or all: those longest without a task."""
        if agent_ids:
            self._take(
                await self._connection.fetch(_OF_AGENTS, *self._moment(), list(agent_ids), wanted)
            )

    async def _find_all(self, capabilities: Collection[str]) -> None:
        """Find those too that were not heard of, or of whom nobody here knew."""
        await self._turns.read(
            self._connection, capabilities, since=self._now - JUST_NOW, now=self._now
        )
        await self._look({key for one in capabilities for key in self._turns.everybody(one)})
        self._complete.update(capabilities)

    async def _look(
        self, instance_keys: set[int], agent_ids: Collection[str] = (), *, wanted: int = 0
    ) -> bool:
        """Look at those that were not yet looked at; tell whether there were any.

        If so, look in the same statement for slots of these agents.
        """
        new = instance_keys - self._looked_at
        if not new:
            return False
        self._looked_at |= new
        fetch, moment = self._connection.fetch, self._moment()
        if agent_ids:
            self._take(await fetch(_BOTH, *moment, list(agent_ids), wanted, list(new)))
        else:
            self._take(await fetch(_WITH_KEYS, *moment, list(new)))
        return True

    def _take(self, rows: Iterable[asyncpg.Record]) -> None:
        silent = set()
        for row in rows:
            key = row["instance_key"]
            given_at = row["given_at"]
            self._turns.given(key, given_at or 0)
            if row["is_silent"]:
                silent.add(key)
            elif row["is_free"] and self._is_available(row):
                slot = Slot(
                    row["agent_id"], row["instance_id"], self._can(row["capabilities"]), given_at
                )
                self._keys[slot[:2]] = key
                self._found[key] = Vacancy(slot, key, endpoint_of(row))
        if silent:
            self._turns.put_aside(silent)

    def _is_available(self, row: asyncpg.Record) -> bool:
        # What is asked for is available but for a startup that failed, which details alone tell.
        if row["state"] == AgentState.IDLE:
            return True
        return is_available(instance_record(row), self._mark, self._now)

    def _can(self, capabilities: str) -> frozenset[str]:
        # Agents are many, what they can do is not.
        if capabilities not in self._able:
            self._able[capabilities] = frozenset(json.loads(capabilities))
        return self._able[capabilities]

    def _moment(self) -> tuple[int, int, int]:
        since, seen_at = NEVER if self._mark is None else self._mark
        return since, seen_at, self._now


# Nothing comes from there just now, though it may again.
_IS_SILENT: Final = f"""
    (a.deregistered_at IS NOT NULL OR NOT {PRESENT} OR {late(POSTGRES, 1, 2)})"""

# Says what `is_available` says, but for what details tell and for silence. Without an instance,
# reports count as one, which real instances supersede. The offsets keep the server from looking
# through all there are, rather than at those of one agent or slot.
_IS_FREE: Final = f"""
    (a.route = '{Route.AGENTKIT}' OR coalesce(i.contact_endpoint, a.contact_endpoint) <> '')
    AND (i.state = '{AgentState.IDLE}' OR i.state = '{AgentState.ERROR}'
         AND (i.sequence IS NOT NULL OR i.last_seen_at <= $3::bigint - {QUIET_AFTER_ERROR}))
    AND (i.instance_id <> '{NO_INSTANCE}' OR NOT EXISTS (
        SELECT FROM opscore.instances AS i
        WHERE i.agent_key = a.agent_key AND i.instance_id <> '{NO_INSTANCE}'
          AND i.state <> '{AgentState.UNKNOWN}' AND {PRESENT} OFFSET 0))
    AND NOT EXISTS (
        SELECT FROM opscore.tasks AS t
        WHERE {IS_OPEN} AND t.agent_id = a.agent_id AND t.instance_id = i.instance_id
        OFFSET 0)"""  # noqa: S608 - made of constants

_MAY_NOT_START: Final = f"""(i.state = '{AgentState.ERROR}'
         AND coalesce(i.details, '') LIKE '%"startup"%')"""

# Of one that is idle nobody asks for its details, which may be long.
_SLOT: Final = f"""
    i.instance_key, a.agent_id, a.capabilities, a.route, {URL}, i.instance_id, i.state,
    CASE WHEN i.state = '{AgentState.ERROR}' THEN i.details END AS details,
    i.timestamp, i.sequence, i.started_at, i.last_seen_at, i.contact_endpoint,
    i.interval, i.loop_lag, i.in_flight, slot.given_at"""
_SLOTS_JOINED: Final = """
    LEFT JOIN opscore.slots AS slot
        ON slot.agent_id = a.agent_id AND slot.instance_id = i.instance_id"""


def _with_keys(number: int) -> str:
    """Return the query for the instances whose keys the parameter with this number has."""
    return f"""
    SELECT {_SLOT}, {_IS_SILENT} AS is_silent, {_IS_FREE} AS is_free
    FROM unnest(${number}::bigint[]) AS wanted (key)
    JOIN opscore.instances AS i ON i.instance_key = wanted.key
    JOIN opscore.agents AS a ON a.agent_key = i.agent_key
    {_SLOTS_JOINED}"""  # noqa: S608 - made of constants


_WITH_KEYS: Final = _with_keys(4)

_OF_AGENTS: Final = f"""
    SELECT free.* FROM unnest($4::text[]) AS wanted (agent_id)
    CROSS JOIN LATERAL (
        SELECT {_SLOT}, false AS is_silent, true AS is_free
        FROM opscore.agents AS a
        JOIN opscore.instances AS i ON i.agent_key = a.agent_key
        {_SLOTS_JOINED}
        WHERE a.agent_id = wanted.agent_id AND NOT {_IS_SILENT} AND {_IS_FREE}
        ORDER BY {_MAY_NOT_START}, coalesce(slot.given_at, 0) LIMIT $5) AS free
    """  # noqa: S608 - made of constants
_BOTH: Final = f"{_OF_AGENTS} UNION ALL {_with_keys(6)}"
