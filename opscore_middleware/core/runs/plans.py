"""What a run goes by: a definition, with all that can be reckoned before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from opscore_middleware.core.jitter import between
from opscore_middleware.core.runs.kept import Kept
from opscore_middleware.core.runs.records import Run, StoredWorkflow
from opscore_middleware.core.workflows.definition import (
    OnFailure,
    Retry,
    TaskDefinition,
    WorkflowDefinition,
)
from opscore_middleware.core.workflows.expressions import Expressions
from opscore_middleware.core.workflows.graph import Graph, graph
from opscore_middleware.core.workflows.templates import Hole, split

__all__ = ["Node", "Plan", "Plans", "Rules", "plan_of"]

_KEPT: Final = 1000
"""How many plans are kept ready; all others are made again from their text."""


class Node(NamedTuple):
    """A task of a definition, in its place among the others."""

    name: str
    """Its `taskId`."""
    place: int
    definition: TaskDefinition
    predecessors: tuple[str, ...]
    successors: tuple[str, ...]
    fallback: str | None
    stands_in_for: tuple[str, ...]
    goes_on: bool
    """Its failure ends nothing but itself."""
    retry: Retry
    start_to_close: int
    schedule_to_close: int
    parameters: str | None
    """As JSON where nothing has to be filled in; else None."""
    named: frozenset[str]
    """The tasks that its expressions name."""
    results: frozenset[str]
    """Those of them whose results they use."""
    key: str
    """Its name as JSON, for the session's result."""


class Plan(NamedTuple):
    """A definition, ready to be followed; nodes by name, in its order."""

    definition: WorkflowDefinition
    nodes: dict[str, Node]


class Plans:
    """Plans by version; a version never changes, so each is made once."""

    def __init__(self, expressions: Expressions) -> None:
        self._expressions = expressions
        self._plans: Kept[tuple[str, int], Plan] = Kept(_KEPT)

    def of(self, workflow: StoredWorkflow) -> Plan:
        """Return the plan of a version that was stored, and thus is right."""
        key = (workflow.workflow_id, workflow.version)
        plan = self._plans.get(key)
        if plan is None:
            definition = WorkflowDefinition.model_validate_json(workflow.definition)
            plan = plan_of(definition, self._expressions)
            self._plans[key] = plan
        return plan


class Rules:
    """What steps go by: plans, how expressions are read, and how chance is drawn."""

    __slots__ = ("_plans", "expressions", "uniform")

    def __init__(
        self,
        expressions: Expressions,
        *,
        uniform: Callable[[float, float], float] = between,
    ) -> None:
        self._plans = Plans(expressions)
        self.expressions = expressions
        self.uniform = uniform

    def plan(self, run: Run) -> Plan:
        """Return what a run goes by."""
        return self._plans.of(run.workflow)

    def plan_of(self, workflow: StoredWorkflow) -> Plan:
        """Return what the runs of a version go by."""
        return self._plans.of(workflow)


def plan_of(definition: WorkflowDefinition, expressions: Expressions) -> Plan:
    """Return the plan of a definition that was validated."""
    order = graph(definition)
    nodes = {
        task.task_id: _node(place, task, order, expressions)
        for place, task in enumerate(definition.tasks)
    }
    return Plan(definition, nodes)


def _node(place: int, task: TaskDefinition, order: Graph, expressions: Expressions) -> Node:
    name = task.task_id
    holes = list(_holes(task.parameters))
    texts = [text for text in (task.when, task.for_each) if text is not None]
    texts += [hole.expression for hole in holes]
    paths = set(_named(texts, expressions))
    return Node(
        name=name,
        place=place,
        definition=task,
        predecessors=order.predecessors[name],
        successors=order.successors[name],
        fallback=order.fallbacks.get(name),
        stands_in_for=order.stands_in_for.get(name, ()),
        goes_on=task.on_failure is OnFailure.CONTINUE,
        retry=task.retry,
        start_to_close=task.timeouts.start_to_close,
        schedule_to_close=task.timeouts.schedule_to_close,
        parameters=None if holes else json.dumps(task.parameters, separators=(",", ":")),
        named=frozenset(task_id for task_id, _ in paths),
        results=frozenset(task_id for task_id, field in paths if field != "state"),
        key=json.dumps(name),
    )


def _holes(value: Any) -> Iterator[Hole]:
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _holes(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _holes(one)
    elif isinstance(value, str) and "{{" in value:
        yield from (part for part in split(value) if isinstance(part, Hole))


def _named(texts: list[str], expressions: Expressions) -> Iterator[tuple[str, str | None]]:
    """Return what expressions ask of which tasks; None where that is all there is."""
    for text in texts:
        for path in expressions.compile(text).paths:
            if len(path) > 1 and path[0] == "tasks":
                yield path[1], path[2] if len(path) > 2 else None
