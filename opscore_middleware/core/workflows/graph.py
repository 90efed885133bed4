"""The order between tasks, from `nextTaskId` and `dependsOn` as one set of edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Final

from opscore_middleware.core.workflows.definition import WorkflowDefinition

__all__ = ["MAX_CHAIN", "Graph", "from_edges", "graph"]

MAX_CHAIN: Final = 16
"""How many fallbacks may stand behind one task, each for the one before."""


@dataclass(frozen=True)
class Graph:
    """Which task comes after which, and which stands in for which.

    All ids are in the order of the definition. `fallbacks` maps a task to the one that is done in
    its place when it has failed, `stands_in_for` that one to the tasks whose fallback it is. This
    is no edge: what waits for a task waits for its end, however it came by it.
    """

    task_ids: tuple[str, ...]
    successors: Mapping[str, tuple[str, ...]]
    predecessors: Mapping[str, tuple[str, ...]]
    fallbacks: Mapping[str, str]
    stands_in_for: Mapping[str, tuple[str, ...]]

    def ancestors(self, task_id: str) -> frozenset[str]:
        """Return the tasks that are over before one begins, and whose results it may thus use.

        Those are its predecessors and theirs, all of their fallbacks, and, for a fallback, the
        tasks that it stands in for and what came before those. Raises `graphlib.CycleError` where
        the graph has a cycle, which that of no validated definition has.
        """
        return self._named(self._ancestors[task_id])

    def awaited(self, task_id: str) -> set[str]:
        """Return the tasks whose end one has to wait for, without those that they wait for."""
        found = set(self.stands_in_for.get(task_id, ()))
        for before in self.predecessors[task_id]:
            found.add(before)
            found.update(one for one in self.chain(before) if one != task_id)
        return found

    def chain(self, task_id: str) -> Iterator[str]:
        """Go through a task's fallback, the fallback's own, and so on, `MAX_CHAIN` of them."""
        seen = {task_id}
        while (stands_in := self.fallbacks.get(task_id)) is not None and stands_in not in seen:
            if len(seen) > MAX_CHAIN:
                return
            yield stands_in
            seen.add(stands_in)
            task_id = stands_in

    @cached_property
    def _ancestors(self) -> dict[str, int]:
        """All ancestors of all tasks, a bit each: sets of them would grow with the square."""
        awaited = {one: self.awaited(one) for one in self.task_ids}
        bits = {one: 1 << place for place, one in enumerate(self.task_ids)}
        masks: dict[str, int] = {}
        for one in TopologicalSorter(awaited).static_order():
            mask = 0
            for before in awaited[one]:
                mask |= masks[before] | bits[before]
            masks[one] = mask
        return masks

    def _named(self, mask: int) -> frozenset[str]:
        return frozenset(one for place, one in enumerate(self.task_ids) if mask >> place & 1)


def graph(definition: WorkflowDefinition) -> Graph:
    """Return the order between the tasks of a definition that was validated."""
    edges = {
        (task.task_id, task.next_task_id)
        for task in definition.tasks
        if task.next_task_id is not None
    }
    edges |= {(before, task.task_id) for task in definition.tasks for before in task.depends_on}
    fallbacks = {
        task.task_id: task.fallback_task_id
        for task in definition.tasks
        if task.fallback_task_id is not None
    }
    return from_edges([task.task_id for task in definition.tasks], edges, fallbacks)


def from_edges(
    task_ids: Iterable[str], edges: Iterable[tuple[str, str]], fallbacks: Mapping[str, str]
) -> Graph:
    """Return the graph of these tasks; an edge leads from the earlier one to the later one."""
    rank = {one: place for place, one in enumerate(dict.fromkeys(task_ids))}
    successors: dict[str, set[str]] = {one: set() for one in rank}
    predecessors: dict[str, set[str]] = {one: set() for one in rank}
    for before, after in edges:
        successors[before].add(after)
        predecessors[after].add(before)
    stands_in_for: dict[str, tuple[str, ...]] = {}
    for one, other in fallbacks.items():
        stands_in_for[other] = (*stands_in_for.get(other, ()), one)

    def in_order(of: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
        return {one: tuple(sorted(of[one], key=rank.__getitem__)) for one in rank}

    return Graph(
        tuple(rank), in_order(successors), in_order(predecessors), dict(fallbacks), stands_in_for
    )
