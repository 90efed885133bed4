"""Whether a definition's tasks can be put in an order: ids, the references to them, no cycles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Final

from opscore_middleware.core.workflows.faults import Fault, Loc, nearest_name, plain, quoted
from opscore_middleware.core.workflows.graph import MAX_CHAIN, Graph, from_edges
from opscore_middleware.core.workflows.sketch import Sketch

__all__ = ["cycle_faults", "graph_of", "id_faults", "unknown_task"]

_MAX_NAMED: Final = 20


def id_faults(tasks: Sequence[Sketch]) -> Iterator[Fault]:
    """Go through ids that two tasks have, and references that lead nowhere."""
    first: dict[str, Loc] = {}
    for task in tasks:
        if task.task_id is not None and first.setdefault(task.task_id, task.loc) is not task.loc:
            taken = Fault(first[task.task_id], "").path
            yield Fault(
                (*task.loc, "taskId"), f"{quoted(task.task_id)} is the id of {taken} already"
            )
    for task in tasks:
        for reference in task.references:
            if reference.task_id not in first:
                yield Fault(reference.loc, unknown_task(reference.task_id, first))


def unknown_task(task_id: str, known: Iterable[str]) -> str:
    """Return the words for a task that is not there."""
    ids = list(known)
    listed = ", ".join(map(plain, ids[:_MAX_NAMED])) + (", ..." if len(ids) > _MAX_NAMED else "")
    near = nearest_name(task_id, ids)
    return f"there is no task {quoted(task_id)}{near}; the tasks are {listed or 'none'}"


def graph_of(tasks: Sequence[Sketch]) -> Graph:
    """Return the order between the tasks, as far as the references lead anywhere."""
    known = {task.task_id for task in tasks if task.task_id is not None}
    edges: list[tuple[str, str]] = []
    fallbacks: dict[str, str] = {}
    for task in tasks:
        if task.task_id is None:
            continue
        if task.next_task is not None and task.next_task.task_id in known:
            edges.append((task.task_id, task.next_task.task_id))
        edges += [(one.task_id, task.task_id) for one in task.depends_on if one.task_id in known]
        if task.fallback is not None and task.fallback.task_id in known:
            fallbacks[task.task_id] = task.fallback.task_id
    ids = [task.task_id for task in tasks if task.task_id is not None]
    return from_edges(ids, edges, fallbacks)


def cycle_faults(tasks: Sequence[Sketch], graph: Graph) -> Iterator[Fault]:
    """Go through the cycles, each at the reference that leads back.

    A fallback makes one too where it waits for what waits for the task that it stands in for.
    """
    places = _places(tasks, graph)
    yield from _fallback_faults(graph, places)
    rank = {one: place for place, one in enumerate(graph.task_ids)}
    awaited = {one: graph.awaited(one) for one in graph.task_ids}
    for one, fallback in graph.fallbacks.items():
        if one == fallback:
            awaited[one].add(one)
    while (cycle := _cycle(awaited)) is not None:
        back = next(step for step in pairwise(cycle) if rank[step[0]] >= rank[step[1]])
        yield Fault(places[back], f"{_listed(cycle)} is a cycle: none of them could ever begin")
        for one in cycle:
            awaited.pop(one, None)
        awaited = {one: befores - set(cycle) for one, befores in awaited.items()}


def _listed(cycle: Sequence[str]) -> str:
    names = [plain(one) for one in cycle]
    if len(names) > _MAX_NAMED:
        names[_MAX_NAMED - 1 : -1] = ["..."]
    return " -> ".join(names)


def _fallback_faults(graph: Graph, places: Mapping[tuple[str, str], Loc]) -> Iterator[Fault]:
    for one in graph.fallbacks:
        chain = list(graph.chain(one))
        if len(chain) == MAX_CHAIN and (further := graph.fallbacks.get(chain[-1])) is not None:
            message = (
                f"{quoted(further)} is one more than the {MAX_CHAIN} fallbacks that {quoted(one)} "
                "may have"
            )
            yield Fault(places[chain[-1], further], message)
        for stands_in in chain:
            if stands_in in graph.successors[one]:
                both = f"{quoted(stands_in)} stands in for {quoted(one)}"
                yield Fault(places[one, stands_in], f"{both}, and cannot wait for it as well")


def _cycle(awaited: dict[str, set[str]]) -> list[str] | None:
    try:
        TopologicalSorter(awaited).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return None


def _places(tasks: Sequence[Sketch], graph: Graph) -> dict[tuple[str, str], Loc]:
    """Return where the document says of two tasks that one waits for the other."""
    places: dict[tuple[str, str], Loc] = {}
    for task in tasks:
        if task.task_id is None:
            continue
        if task.next_task is not None:
            places.setdefault((task.task_id, task.next_task.task_id), task.next_task.loc)
        for one in task.depends_on:
            places.setdefault((one.task_id, task.task_id), one.loc)
    fallbacks = {task.task_id: task.fallback.loc for task in tasks if task.fallback is not None}
    for stood_in_for, fallback in graph.fallbacks.items():
        places.setdefault((stood_in_for, fallback), fallbacks[stood_in_for])
        for after in graph.successors[stood_in_for]:
            for stands_in in graph.chain(stood_in_for):
                places.setdefault((stands_in, after), fallbacks[stood_in_for])
    return places
