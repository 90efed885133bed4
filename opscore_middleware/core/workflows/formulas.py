"""Whether a definition's expressions can be read, and name what is there when they are needed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeGuard

from opscore_middleware.core.workflows.definition import MAX_EXPRESSION
from opscore_middleware.core.workflows.expressions import (
    ITEM_ROOTS,
    TASK_FIELDS,
    Expression,
    Expressions,
)
from opscore_middleware.core.workflows.faults import Fault, Loc, nearest_name, quoted
from opscore_middleware.core.workflows.graph import Graph
from opscore_middleware.core.workflows.order import unknown_task
from opscore_middleware.core.workflows.sketch import Sketch
from opscore_middleware.core.workflows.templates import Hole, split

__all__ = ["formula_faults"]

_ROOTS: Final = ("initialPayload", "tasks")
_MAX_DEPTH: Final = 100
_MAX_PARTS: Final = 150  # within one another; more are more than Python's stack has room for
_MAX_COPIES: Final = 100_000


class _Scope(NamedTuple):
    """What an expression may name. `before` is None where the order is not to be told."""

    roots: tuple[str, ...]
    task_ids: Collection[str]
    before: frozenset[str] | None
    expressions: Expressions


def formula_faults(
    tasks: Sequence[Sketch], graph: Graph, *, expressions: Expressions, is_ordered: bool
) -> Iterator[Fault]:
    """Go through the faults of all expressions; `is_ordered` says that there are no cycles."""
    for task in tasks:
        before = None
        if is_ordered and task.task_id is not None:
            before = graph.ancestors(task.task_id)
        scope = _Scope(_ROOTS, graph.predecessors.keys(), before, expressions)
        if _is_read(task.when):
            yield from _expression((*task.loc, "when"), task.when, scope)
        if _is_read(task.for_each):
            yield from _expression((*task.loc, "forEach"), task.for_each, scope)
            scope = scope._replace(roots=_ROOTS + ITEM_ROOTS)
        yield from _value((*task.loc, "parameters"), task.parameters, scope, 0)


def _is_read(text: str | None) -> TypeGuard[str]:
    """Tell whether a field has what may be an expression; how long one is, its shape says."""
    return text is not None and 0 < len(text) <= MAX_EXPRESSION


def _value(loc: Loc, value: Any, scope: _Scope, depth: int) -> Iterator[Fault]:
    if depth > _MAX_DEPTH:
        yield Fault(loc[:10], f"is nested more than {_MAX_DEPTH} deep")
    elif isinstance(value, Mapping):
        for name, one in value.items():
            if isinstance(name, str) and _is_whole(name):
                yield from _value((*loc, name), one, scope, depth + 1)
            else:
                yield Fault(loc, f"has a name that is no text: {quoted(name)}")
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from _value((*loc, place), one, scope, depth + 1)
    else:
        yield from _leaf(loc, value, scope)


def _leaf(loc: Loc, value: Any, scope: _Scope) -> Iterator[Fault]:
    if isinstance(value, str):
        if _is_whole(value):
            yield from _template(loc, value, scope)
        else:
            yield Fault(loc, f"{quoted(value)} has half a character, which no UTF-8 can say")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Fault(loc, f"{value} is no number that JSON knows")
    elif not (value is None or isinstance(value, bool | int | float)):
        yield Fault(loc, f"{type(value).__name__} is no type that JSON knows")


def _is_whole(text: str) -> bool:
    """Tell whether a text can travel: JSON can spell one half of a pair that means a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _template(loc: Loc, text: str, scope: _Scope) -> Iterator[Fault]:
    try:
        parts = split(text)
    except ValueError as error:
        yield Fault(loc, str(error))
        return
    for part in parts:
        if isinstance(part, Hole) and len(part.expression) > MAX_EXPRESSION:
            yield Fault(
                loc,
                f"{quoted(part.expression)} has {len(part.expression):,} characters; an expression "
                f"has at most {MAX_EXPRESSION:,}",
            )
        elif isinstance(part, Hole):
            yield from _expression(loc, part.expression, scope)


def _expression(loc: Loc, text: str, scope: _Scope) -> Iterator[Fault]:
    try:
        expression = scope.expressions.compile(text)
    except ValueError as error:
        hint = ' (a name with other than letters, digits and _ is quoted: tasks."step-1".result)'
        yield Fault(loc, f"{quoted(text)} is no expression: {error}{hint if '-' in text else ''}")
        return
    excess = _excess(expression)
    if excess is not None:
        yield Fault(loc, f"{quoted(text)} {excess}; have a task before it do a part of that")
        return
    for path in dict.fromkeys(expression.paths):
        message = _wrong(path, scope)
        if message is not None:
            yield Fault(loc, f"{quoted(text)}: {message}")


def _excess(expression: Expression) -> str | None:
    if expression.depth > _MAX_PARTS:
        return f"has {expression.depth:,} parts within one another; at most {_MAX_PARTS} are taken"
    if expression.copies > _MAX_COPIES:
        return (
            f"may copy what it is given {expression.copies:,} times, since parts such as [@, @] "
            f"multiply one another; at most {_MAX_COPIES:,} copies are taken"
        )
    return None


def _wrong(path: tuple[str, ...], scope: _Scope) -> str | None:
    roots = " and ".join((", ".join(scope.roots[:-1]), scope.roots[-1]))
    match path:
        case ():
            return f"names nothing to begin with; there are {roots}"
        case (root, *_) if root not in scope.roots:
            near = nearest_name(root, scope.roots)
            return f"there is no {quoted(root)} here{near}; there are {roots}"
        case ("tasks",):
            return "names no task; write for example tasks.step_1.result"
        case ("tasks", task_id, *rest):
            return _wrong_task(task_id, rest, scope)
    return None


def _wrong_task(task_id: str, rest: Sequence[str], scope: _Scope) -> str | None:
    if task_id not in scope.task_ids:
        return unknown_task(task_id, scope.task_ids)
    if scope.before is not None and task_id not in scope.before:
        return f"task {quoted(task_id)} does not come before this one; name it in dependsOn"
    if rest and rest[0] not in TASK_FIELDS:
        return f"a task has {' and '.join(TASK_FIELDS)}, and no {quoted(rest[0])}"
    return None
