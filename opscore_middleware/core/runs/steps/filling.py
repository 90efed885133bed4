"""What a task is given: its parameters, its items, and whether it is done at all."""

from __future__ import annotations

import json
from typing import Any, Final

from opscore_middleware.core.runs.plans import Node
from opscore_middleware.core.runs.steps.draft import Draft
from opscore_middleware.core.runs.tasks import Task, TaskState
from opscore_middleware.core.workflows.expressions import Reckoning
from opscore_middleware.errors import ExpressionFailed

__all__ = [
    "as_json",
    "as_known_json",
    "is_wanted",
    "items_of",
    "parameters_of",
    "reckoning_of",
    "result_of",
]


_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""Made once: `json.dumps` makes another encoder each time, which takes longer than its work."""


def as_json(value: Any) -> str:
    """Return a value as JSON that every store can keep. Raises `ValueError` for NaN."""
    return _encode(value)


def as_known_json(value: Any) -> str:
    """Return a value as JSON; numbers that JSON does not know become texts."""
    try:
        return as_json(value)
    except ValueError:
        return as_json(json.loads(json.dumps(value), parse_constant=str))


def is_wanted(node: Node, asked: Reckoning) -> bool:
    """Tell whether a node's `when` lets it be done. Raises `ExpressionFailed`."""
    when = node.definition.when
    return when is None or asked.condition(when)


def items_of(node: Node, asked: Reckoning) -> list[Any] | None:
    """Return what a node is done for, None where it is done once. Raises `ExpressionFailed`."""
    for_each = node.definition.for_each
    return None if for_each is None else asked.items(for_each)


def parameters_of(
    draft: Draft, node: Node, asked: Reckoning, *, item: Any = None, index: int | None = None
) -> str:
    """Return a node's parameters, filled in, as JSON. Raises `ExpressionFailed`.

    Where nothing comes before a node and it names no parameters, the session's payload is them.
    """
    if node.parameters is not None:
        is_first = not node.definition.parameters and not node.predecessors
        if is_first and not node.stands_in_for and draft.run.initial_payload is not None:
            return draft.run.initial_payload
        return node.parameters
    filled = asked.render(node.definition.parameters, item=item, index=index)
    try:
        return as_json(filled)
    except (ValueError, RecursionError) as error:
        raise ExpressionFailed(
            f"The parameters of task {node.name!r} came to what JSON cannot say: {error}.",
            task=node.name,
        ) from None


def reckoning_of(draft: Draft, node: Node) -> Reckoning:
    """Return what answers a node's expressions, from what they name.

    Raises `ExpressionFailed` where they use a result that there was, and that was lost.
    """
    if (
        node.parameters is not None
        and node.definition.when is None
        and not node.definition.for_each
    ):
        return _reckoning(draft, {})
    payload = draft.run.initial_payload
    for name in sorted(node.results):
        row = _standing_in(draft, name)
        if row is not None and row.state is TaskState.COMPLETED and row.error is not None:
            lost = json.loads(row.error).get("message", "it was lost.")
            raise ExpressionFailed(
                f"Task {node.name!r} uses the result of {name!r}, which there is none of. {lost}",
                task=node.name,
            )
    context = {
        "initialPayload": None if payload is None else json.loads(payload),
        "tasks": {name: _seen(draft, name) for name in node.named},
    }
    return _reckoning(draft, context)


def _reckoning(draft: Draft, context: dict[str, Any]) -> Reckoning:
    budget = draft.allowance.budget()
    return Reckoning(context, expressions=draft.rules.expressions, budget=budget)


def result_of(draft: Draft, name: str) -> str | None:
    """Return what a node came to, as JSON: where it failed, what its fallback did."""
    row = _standing_in(draft, name)
    return None if row is None else row.result


def _standing_in(draft: Draft, name: str) -> Task | None:
    """Return the task whose result is a node's: where that has failed, its fallback, if any."""
    row: Task = draft.row(name)
    while row.state is TaskState.FAILED:
        fallback = draft.node(row.node).fallback
        if fallback is None:
            return None
        row = draft.row(fallback)
    return row


def _seen(draft: Draft, name: str) -> dict[str, Any]:
    result = result_of(draft, name)
    return {
        "result": None if result is None else json.loads(result),
        "state": draft.row(name).state.value,
    }
