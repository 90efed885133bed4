"""What steps have changed of runs, and who makes room where an attempt turns up in another slot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress, islice
from operator import is_not
from typing import NamedTuple

from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.tasks import OPEN, Task

__all__ = ["Change", "SlotId", "changes", "entered", "slot_of", "stopped_in", "swapped"]

SlotId = tuple[str, str]
"""An agent's id and its instance's, which is empty for reports without one."""


class Change(NamedTuple):
    """A task that was changed, or made."""

    before: Task | None
    after: Task


def changes(before: Run, after: Run) -> list[Change]:
    """Return the tasks that differ, in their order, which a step keeps."""
    past, now = before.tasks, after.tasks
    if past is now:
        return []
    # A run may have thousands of tasks, and a step mostly changes one.
    pairs = zip(past.values(), now.values(), strict=False)
    differs = map(is_not, past.values(), now.values())
    found = [Change(*pair) for pair in compress(pairs, differs)]
    if len(now) > len(past):
        found += [Change(None, task) for task in islice(now.values(), len(past), None)]
    return found


def slot_of(task: Task | None) -> SlotId | None:
    """Return the slot that a task's open attempt holds; None where it holds none."""
    if task is None or task.state not in OPEN:
        return None
    if task.agent_id is None or task.instance_id is None:
        return None
    return task.agent_id, task.instance_id


def stopped_in(before: Task, after: Task) -> SlotId | None:
    """Return the slot whose instance is to be told to stop an attempt, from this change on; None
    where nothing is new of that.
    """
    if not after.stopped or after.agent_id is None or after.instance_id is None:
        return None
    is_new = slot_of(before) is not None or before.instance_id != after.instance_id
    return (after.agent_id, after.instance_id) if is_new else None


def entered(changed: Iterable[Change]) -> list[SlotId]:
    """Return the slots that open attempts have moved to."""
    return [
        slot
        for before, after in changed
        if (slot := slot_of(after)) is not None and slot != slot_of(before)
    ]


def swapped(before: Mapping[str, Run], after: Mapping[str, Run]) -> dict[str, Run]:
    """Let whoever held a slot that an attempt has moved to have one that its agent has left.

    Takes runs by their ids, as they were and as their steps left them, all that hold one of the
    slots that were `entered` among them; returns the runs that this changes.
    """
    movers: dict[SlotId, tuple[str, str]] = {}
    left: dict[str, list[SlotId]] = {}
    holders: dict[SlotId, list[tuple[str, Task]]] = {}
    for session_id, run in after.items():
        for task_id, task in run.tasks.items():
            slot = slot_of(task)
            if slot is None:
                continue
            holders.setdefault(slot, []).append((session_id, task))
            past = slot_of(before[session_id].tasks.get(task_id))
            if past != slot:
                movers[slot] = session_id, task_id  # the last that moves there stays
                if past is not None:
                    left.setdefault(past[0], []).append(past)
    displaced: dict[str, Run] = {}
    for slot, mover in movers.items():
        for session_id, task in holders[slot]:
            if (session_id, task.task_id) == mover:
                continue
            free = next((s for s in left.get(slot[0], ()) if s not in holders), None)
            if free is not None:
                holders[free] = [(session_id, task)]
                run = displaced.get(session_id, after[session_id])
                there = task._replace(instance_id=free[1])
                displaced[session_id] = run._replace(tasks={**run.tasks, task.task_id: there})
    return displaced
