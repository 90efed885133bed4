"""Whose turn it is to be given a task: what one replica knows of what PostgreSQL says."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.rows import NO_INSTANCE, PRESENT

__all__ = ["FLEET", "JUST_NOW", "LATELY", "Fleet", "Turns"]

JUST_NOW: Final = SECOND
"""How old an order may be in which too few were free."""

LATELY: Final = 30 * SECOND
"""How old any order may be."""

_FEWEST: Final = 16
_LONG_AGO: Final = -(2**63)


class Fleet(NamedTuple):
    """What changes when an instance appears, or an agent is registered."""

    last_instance: int | None
    updated_at: int | None


class _Order:
    """Who may have one capability.

    Each is in the queue by the time when it was last given a task, or a time before that.
    """

    __slots__ = ("aside", "queue", "read_at")

    def __init__(self, read_at: int) -> None:
        self.queue: list[tuple[int, int]] = []
        self.aside: set[int] = set()
        self.read_at = read_at


class Turns:
    """Whose turn it is to be given a task, so that a claim need not look at everybody.

    Other replicas give tasks too, unseen. But the time when an instance was last given one only
    grows, so what is known of that here is never too late: whoever comes first by it is looked up
    in the database, and noted with what that says, until those that come first are all known as
    they are. They are the true first ones then.
    """

    def __init__(self) -> None:
        self._fleet: Fleet | None = None
        self._orders: dict[str, _Order] = {}
        self._given_at: dict[int, int] = {}
        self._last = 0

    @property
    def given_last(self) -> int:
        """How many tasks were given out last in turn."""
        return self._last

    @property
    def expected(self) -> int:
        """How many slots the next claim may need."""
        return max(_FEWEST, 2 * self._last)

    def expect(self, claims: int) -> None:
        """Note how many tasks were just given out."""
        self._last = claims

    def notice(self, fleet: Fleet) -> None:
        """Have all be read anew if instances have appeared, or agents were registered."""
        if fleet != self._fleet:
            self._fleet = fleet
            self.forget()

    def forget(self) -> None:
        """Have all be read anew."""
        # Who is in the middle of a claim goes on with what there is.
        for order in self._orders.values():
            order.read_at = _LONG_AGO
        self._given_at.clear()

    async def read(
        self, connection: Connection, capabilities: Iterable[str], *, since: int, now: int
    ) -> None:
        """Read who may have these capabilities, where that was not read `since`."""
        old = [one for one in capabilities if not self._was_read(one, since, now)]
        if not old:
            return
        orders = {capability: _Order(now) for capability in old}
        for capability, key, given_at in await connection.fetch(_ORDERS, old):
            orders[capability].queue.append((given_at, key))
        for order in orders.values():
            heapify(order.queue)
        self._orders |= orders

    def first(self, capability: str, count: int) -> list[int]:
        """Return the keys of as many instances, or of all, that come first by what is known."""
        queue, known = self._orders[capability].queue, self._given_at
        first: list[tuple[int, int]] = []
        while queue and len(first) < count:
            at, key = entry = heappop(queue)
            given_at = known.get(key, at)
            if given_at > at:
                heappush(queue, (given_at, key))
            else:
                first.append(entry)
        for entry in first:
            heappush(queue, entry)
        return [key for _, key in first]

    def everybody(self, capability: str) -> set[int]:
        """Return the keys of all, those that were put aside too."""
        order = self._orders[capability]
        return order.aside.union(key for _, key in order.queue)

    def given(self, instance_key: int, at: int) -> None:
        """Note when an instance was last given a task."""
        self._given_at[instance_key] = at

    def put_aside(self, instance_keys: Collection[int]) -> None:
        """Have these be passed over until there is nobody else, or who there is, is read again."""
        for order in self._orders.values():
            aside = {key for _, key in order.queue if key in instance_keys}
            if aside:
                order.aside |= aside
                order.queue = [entry for entry in order.queue if entry[1] not in aside]
                heapify(order.queue)

    def _was_read(self, capability: str, since: int, now: int) -> bool:
        order = self._orders.get(capability)
        return order is not None and since < order.read_at <= now


# The last of a primary key, and the last of an index: neither takes longer where there are many.
FLEET: Final = """
    (SELECT max(instance_key) FROM opscore.instances) AS last_instance,
    (SELECT max(updated_at) FROM opscore.agents) AS updated_at"""
"""Selects the columns of a `Fleet`."""

# Of an instance that has finished nothing comes any more, of all others something may.
_ORDERS: Final = f"""
    SELECT wanted.name, i.instance_key, coalesce(slot.given_at, 0)
    FROM unnest($1::text[]) AS wanted (name)
    JOIN opscore.agents AS a ON a.capabilities::jsonb ? wanted.name
    JOIN opscore.instances AS i ON i.agent_key = a.agent_key
    LEFT JOIN opscore.slots AS slot
        ON slot.agent_id = a.agent_id AND slot.instance_id = i.instance_id
    WHERE {PRESENT} AND (i.instance_id = '{NO_INSTANCE}' OR i.state <> '{AgentState.FINISHED}')
    """  # noqa: S608 - made of constants
