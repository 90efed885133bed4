"""The order between tasks, from `nextTaskId` and `dependsOn` as one set of edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from opscore_middleware.core.workflows.definition import WorkflowDefinition

__all__ = ["Graph", "from_edges", "graph"]


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
        tasks that it stands in for and what came before those.
        """
        found: set[str] = set()
        todo = list(self._before(task_id))
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self._before(one)
                if one in self.fallbacks:
                    todo.append(self.fallbacks[one])
        return frozenset(found - {task_id})

    def _before(self, task_id: str) -> list[str]:
        return [*self.predecessors[task_id], *self.stands_in_for.get(task_id, ())]


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
    ordered = tuple(dict.fromkeys(task_ids))
    stands_in_for: dict[str, tuple[str, ...]] = {}
    for one, other in fallbacks.items():
        stands_in_for[other] = (*stands_in_for.get(other, ()), one)
    successors: dict[str, set[str]] = {one: set() for one in ordered}
    predecessors: dict[str, set[str]] = {one: set() for one in ordered}
    for before, after in edges:
        successors[before].add(after)
        predecessors[after].add(before)
    rank = {one: place for place, one in enumerate(ordered)}

    def in_order(of: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
        return {one: tuple(sorted(of[one], key=rank.__getitem__)) for one in ordered}

    return Graph(
        ordered, in_order(successors), in_order(predecessors), dict(fallbacks), stands_in_for
    )
