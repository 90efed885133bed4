"""Which ready task goes to which free slot: a pure decision, the same in every store."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from opscore_middleware.core.runs.tasks import Route, Task, TaskState, replaced

__all__ = ["Match", "Slot", "Waiting", "given", "match"]


class Waiting(NamedTuple):
    """A task that may be claimed; its key is the store's own."""

    task_key: int
    pinned: str | None
    capability: str | None
    priority: int
    ready_at: int
    created_at: int
    session_agent: str
    """Whom the session was started for."""


class Slot(NamedTuple):
    """An available instance without an open attempt."""

    agent_id: str
    instance_id: str
    """Empty for an agent that reports without instances."""
    capabilities: Collection[str]
    """Of its agent; those that nobody waits for may be left out."""
    tasked_at: int | None
    """When it was last given a task; None for never."""


class Match(NamedTuple):
    """A task and the slot that it gets."""

    task: Waiting
    slot: Slot


def match(waiting: Iterable[Waiting], slots: Iterable[Slot], *, limit: int) -> list[Match]:
    """Give tasks to slots, one each, at most `limit`.

    A higher priority goes first, then what was ready first, then what was made first. A task that
    is pinned waits for its agent. Of the slots that could have any other, one of the session's own
    agent goes first, then the one that was longest without a task.
    """
    free = _Free(slots)
    matches: list[Match] = []
    for task in sorted(waiting, key=_order):
        if len(matches) == limit or not free:
            break
        slot = free.take(task)
        if slot is not None:
            matches.append(Match(task, slot))
    return matches


def given(task: Task, slot: Slot, *, route: Route | None, now: int) -> Task:
    """Return a task whose next attempt goes to a slot, by the route that its endpoint prefers."""
    until = now + task.start_within
    return replaced(
        task,
        {
            "state": TaskState.DISPATCHED,
            "attempt": task.attempt + 1,
            "agent_id": slot.agent_id,
            "instance_id": slot.instance_id,
            "route": route,
            "rerouted": False,
            "stopped": False,
            "dispatched_at": now,
            "deadline_at": until if task.close_by is None else min(until, task.close_by),
        },
    )


def _order(task: Waiting) -> tuple[int, int, int, int]:
    return -task.priority, task.ready_at, task.created_at, task.task_key


_Queues = dict[str, deque[Slot]]


class _Free:
    """The slots that nobody has got yet, those longest without a task first."""

    def __init__(self, slots: Iterable[Slot]) -> None:
        self._of_agent: _Queues = {}
        self._with_capability: _Queues = {}
        self._free: set[tuple[str, str]] = set()
        for slot in sorted(slots, key=lambda slot: slot.tasked_at or 0):
            self._free.add(slot[:2])
            self._of_agent.setdefault(slot.agent_id, deque()).append(slot)
            for capability in slot.capabilities:
                self._with_capability.setdefault(capability, deque()).append(slot)

    def __bool__(self) -> bool:
        return bool(self._free)

    def take(self, task: Waiting) -> Slot | None:
        slot: Slot | None = None
        if task.pinned is not None:
            slot = self._first(self._of_agent, task.pinned)
        elif task.capability is not None:
            slot = self._first(self._of_agent, task.session_agent)
            if slot is None or task.capability not in slot.capabilities:
                slot = self._first(self._with_capability, task.capability)
        if slot is not None:
            self._free.remove(slot[:2])
        return slot

    def _first(self, queues: Mapping[str, deque[Slot]], name: str) -> Slot | None:
        queue = queues.get(name)
        while queue and queue[0][:2] not in self._free:  # it was taken from another queue
            queue.popleft()
        return queue[0] if queue else None
