"""Who could be given a task in SQLite: available instances with a free slot."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.records import InstanceRecord
from opscore_middleware.core.runs.availability import is_available
from opscore_middleware.core.runs.matching import Slot
from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.rows import NO_INSTANCE, PRESENT
from opscore_middleware.stores.sqlite_tasks import IS_OPEN, OPEN_TASKS
from opscore_middleware.stores.sqlite_turns import Turns

__all__ = ["AGENT", "CAPABILITY", "Vacancies", "Vacancy", "endpoint"]

AGENT: Final = "agent "
CAPABILITY: Final = "capability "

_ROUTES: Final = {None: None} | {route.value: route for route in Route}


def endpoint(connection: sqlite3.Connection, *, agent_id: str, instance_id: str) -> Endpoint | None:
    """Keep `core.runs.store.RunStore.endpoint`'s promise."""
    row = connection.execute(_ENDPOINT, (agent_id, instance_id)).fetchone()
    return None if row is None else Endpoint(agent_id, instance_id, row[0], _ROUTES[row[1]])


class Vacancy(NamedTuple):
    """A slot that is free, and what is known of whose it is."""

    slot: Slot
    instance_key: int
    endpoint: Endpoint


class Vacancies:
    """The available instances with a free slot, as many as a claim can need."""

    def __init__(
        self, connection: sqlite3.Connection, turns: Turns, mark: Watermark | None, now: int
    ) -> None:
        self._connection = connection
        self._turns = turns
        self._mark = mark
        self._now = now
        self._found: dict[tuple[str, str], Vacancy] = {}
        self._capabilities: dict[str, frozenset[str]] = {}
        self.served: set[str] = set()
        """The queues that what was found could serve."""

    @property
    def slots(self) -> list[Slot]:
        return [vacancy.slot for vacancy in self._found.values()]

    def of(self, slot: Slot) -> Vacancy:
        """Return what was found of a slot."""
        return self._found[slot.agent_id, slot.instance_id]

    def find(self, queues: Collection[str], *, wanted: int) -> bool:
        """Look for slots that could serve these queues, those longest without a task first; tell
        whether there is any.

        `wanted` is how many tasks are claimed at most: with as many slots for each capability, a
        claim lacks none.
        """
        pinned = {queue.removeprefix(AGENT) for queue in queues if queue.startswith(AGENT)}
        self.served |= {AGENT + vacancy.slot.agent_id for vacancy in self.find_of(pinned)}
        for queue in queues:
            if queue.startswith(CAPABILITY) and self._find(queue.removeprefix(CAPABILITY), wanted):
                self.served.add(queue)
        return bool(self._found)

    def find_of(self, agent_ids: Collection[str]) -> list[Vacancy]:
        """Look for slots of these agents, and return them."""
        return self._look(_OF_AGENTS, list(agent_ids)) if agent_ids else []

    def _find(self, capability: str, wanted: int) -> bool:
        """Look for as many slots of whoever has a capability; tell whether there is any."""
        found = looked = 0
        for keys in self._turns.of(capability, wanted=wanted):
            found += len(self._look(_WITH_KEYS, keys))
            looked += len(keys)
            if found >= wanted:
                break
        self._turns.missed(capability, looked - found)
        return found > 0

    def _look(self, query: str, wanted: Iterable[str | int]) -> list[Vacancy]:
        rows = self._connection.execute(query, (json.dumps(wanted),))
        rows.row_factory = None  # tuples, since these are read by place
        found: list[Vacancy] = []
        for key, agent_id, capabilities, tasked_at, url, route, *fields in rows.fetchall():
            slot_id = agent_id, fields[0]
            vacancy = self._found.get(slot_id)
            if vacancy is None:
                if not is_available(InstanceRecord._make(fields), self._mark, self._now):
                    continue
                slot = Slot(*slot_id, self._can(capabilities), tasked_at)
                reached = Endpoint(*slot_id, url, _ROUTES[route])
                vacancy = self._found[slot_id] = Vacancy(slot, key, reached)
            found.append(vacancy)
        return found

    def _can(self, text: str) -> Collection[str]:
        # Agents are many, what they can do is not.
        if text not in self._capabilities:
            self._capabilities[text] = frozenset(json.loads(text))
        return self._capabilities[text]


_URL: Final = "ifnull(nullif(i.contact_endpoint, ''), a.contact_endpoint)"
# Of one that is idle nobody asks for its details, which may be long.
_INSTANCE: Final = ", ".join(
    f"CASE WHEN i.state = '{AgentState.ERROR}' THEN i.details END"
    if field == "details"
    else f"i.{field}"
    for field in InstanceRecord._fields
)


def _vacant(whose: str) -> str:
    """Return the query for the free slots among these instances `i` and their agents `a`."""
    return f"""
        SELECT i.instance_key, a.agent_id, a.capabilities, slots.tasked_at, {_URL}, a.route,
               {_INSTANCE}
        FROM json_each(?) AS wanted {whose}
        LEFT JOIN slots ON slots.agent_id = a.agent_id AND slots.instance_id = i.instance_id
        WHERE a.deregistered_at IS NULL AND i.state IN ('{AgentState.IDLE}', '{AgentState.ERROR}')
          AND {PRESENT}
          AND (a.route = '{Route.AGENTKIT}'
               OR coalesce(i.contact_endpoint, a.contact_endpoint) <> '')
          AND (i.instance_id <> '{NO_INSTANCE}' OR NOT EXISTS (
              SELECT 1 FROM instances AS real WHERE real.agent_key = i.agent_key
                 AND real.instance_id <> '{NO_INSTANCE}' AND real.state <> '{AgentState.UNKNOWN}'))
          AND NOT EXISTS (
              SELECT 1 FROM {OPEN_TASKS}
              WHERE t.agent_id = a.agent_id AND t.instance_id = i.instance_id AND {IS_OPEN})
        """  # noqa: S608 - made of constants


_WITH_KEYS: Final = _vacant("""
    CROSS JOIN instances AS i ON i.instance_key = wanted.value
    CROSS JOIN agents AS a ON a.agent_key = i.agent_key""")
_OF_AGENTS: Final = _vacant("""
    CROSS JOIN agents AS a ON a.agent_id = wanted.value
    CROSS JOIN instances AS i ON i.agent_key = a.agent_key""")
_ENDPOINT: Final = f"""
    SELECT {_URL}, a.route
    FROM agents AS a JOIN instances AS i USING (agent_key)
    WHERE a.agent_id = ? AND i.instance_id = ?"""  # noqa: S608 - made of constants
