"""In which order instances are given tasks, kept in memory beside the file that says it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from itertools import chain, islice
from typing import Final

from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.rows import NO_INSTANCE

__all__ = ["Turns"]

_FEWEST: Final = 4
_MOST: Final = 4096
_GROWTH: Final = 4
_IN_VAIN: Final = 10
"""How often as many as there are may be looked at in vain until the order is read again, which
leaves out those that have finished."""


class _Order:
    """Who has one capability, by instance key: who was never given a task, then who was longest
    without one."""

    __slots__ = ("in_vain", "never", "tasked")

    def __init__(self) -> None:
        self.never: dict[int, None] = {}
        self.tasked: dict[int, None] = {}
        self.in_vain = 0

    def __len__(self) -> int:
        return len(self.never) + len(self.tasked)

    def __iter__(self) -> Iterator[int]:
        return chain(self.never, self.tasked)


class Turns:
    """Whose turn it is to be given a task, so that a claim need not look at everybody.

    It tells the order alone, not who is free: whoever may have the capability is in it, and the
    file says of each what it does. One thread writes to the file, and this hears from it of all
    that matters: what agents can do by a trigger, new instances by their keys, and tasks that are
    given out by a call.

    Args:
        connection: the one that writes to the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._orders: dict[str, _Order] = {}
        self._last_key = 0
        connection.create_function("opscore_forget_turns", 0, self.forget)
        connection.executescript(_TRIGGERS)

    def of(self, capability: str, *, wanted: int) -> Iterator[list[int]]:
        """Go through the keys of instances that may have a capability, those longest without a
        task first, a few more each time; `wanted` is how many are needed."""
        order = self._order(capability)
        keys = iter(order)
        size = max(_FEWEST, wanted)
        while some := list(islice(keys, min(size, _MOST))):
            yield some
            size *= _GROWTH

    def missed(self, capability: str, count: int) -> None:
        """Note that so many were looked at that could not have a task."""
        order = self._orders[capability]
        order.in_vain += count
        if order.in_vain > _IN_VAIN * (len(order) + _FEWEST):
            del self._orders[capability]

    def took(self, instance_key: int, capabilities: Collection[str]) -> None:
        """Note that an instance was given a task just now."""
        for capability in capabilities:
            order = self._orders.get(capability)
            if order is not None:
                order.never.pop(instance_key, None)
                order.tasked.pop(instance_key, None)
                order.tasked[instance_key] = None

    def forget(self) -> None:
        """Have everything read again when it is next asked for."""
        self._orders.clear()

    def _order(self, capability: str) -> _Order:
        self._note_new_instances()
        order = self._orders.get(capability)
        if order is None:
            order = self._orders[capability] = _Order()
            for key, is_new in self._connection.execute(_ORDER, (capability,)).fetchall():
                (order.never if is_new else order.tasked)[key] = None
        return order

    def _note_new_instances(self) -> None:
        (last,) = self._connection.execute(_LAST).fetchone()
        if last == self._last_key:
            return
        if self._orders:
            for key, capability in self._connection.execute(_NEW, (self._last_key,)).fetchall():
                order = self._orders.get(capability)
                if order is not None:
                    order.never[key] = None
        self._last_key = last


_TRIGGERS: Final = """
CREATE TEMP TRIGGER turns_joined AFTER INSERT ON main.agent_capabilities BEGIN
    SELECT opscore_forget_turns();
END;

CREATE TEMP TRIGGER turns_left AFTER DELETE ON main.agent_capabilities BEGIN
    SELECT opscore_forget_turns();
END;
"""
# Of an instance that has finished nothing comes any more, of all others something may.
_ORDER: Final = f"""
    SELECT i.instance_key, slots.tasked_at IS NULL
    FROM agent_capabilities AS c
    CROSS JOIN agents AS a ON a.agent_key = c.agent_key
    CROSS JOIN instances AS i ON i.agent_key = c.agent_key
    LEFT JOIN slots ON slots.agent_id = a.agent_id AND slots.instance_id = i.instance_id
    WHERE c.capability = ?
      AND (i.instance_id = '{NO_INSTANCE}' OR i.state <> '{AgentState.FINISHED}')
    ORDER BY slots.tasked_at, i.instance_key"""  # noqa: S608 - made of constants
_LAST: Final = "SELECT ifnull(max(instance_key), 0) FROM instances"
_NEW: Final = """
    SELECT i.instance_key, c.capability
    FROM instances AS i CROSS JOIN agent_capabilities AS c ON c.agent_key = i.agent_key
    WHERE i.instance_key > ? ORDER BY i.instance_key"""
