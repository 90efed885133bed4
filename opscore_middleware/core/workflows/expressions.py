"""What a workflow reckons with: conditions, lists and parameters, from what is known of its run.

They are JMESPath expressions over one context:

    {"initialPayload": ..., "tasks": {"<taskId>": {"result": ..., "state": ...}}}

and, in the parameters of a task with `forEach`, `item` and `index` beside them.

An expression that fills a parameter and finds nothing is an error that names it. To a task, a null
that was not meant looks like an answer, so whoever means it says so: `a || b`, a default, and
``a || `null` ``, nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from opscore_middleware.core.workflows.templates import Hole, split
from opscore_middleware.errors import ExpressionFailed

__all__ = ["TASK_FIELDS", "Expression", "Expressions", "condition", "items", "render"]

TASK_FIELDS: Final = ("result", "state")
"""What an expression can ask of a task."""


class Expression(Protocol):
    """An expression that was read."""

    @property
    def paths(self) -> Sequence[tuple[str, ...]]:
        """The names that it begins with: `a.b[0].c || d` has `(a, b)` and `(d,)`."""
        ...

    @property
    def allows_null(self) -> bool:
        """Whether it says itself that it may find nothing, as ``a || `null` `` does."""
        ...

    def search(self, context: Mapping[str, Any]) -> Any:
        """Return what it finds, None for nothing. Raises `ValueError`, saying why it cannot."""
        ...


class Expressions(Protocol):
    """Reads expressions. The core knows what they are for, not how they are written."""

    def compile(self, text: str) -> Expression:
        """Read one. Raises `ValueError`, saying where it goes wrong."""
        ...


def condition(when: str, context: Mapping[str, Any], *, expressions: Expressions) -> bool:
    """Tell whether a condition holds; null, false, and what is empty are false, 0 is not.

    Raises `ExpressionFailed`.
    """
    value = _search(when, context, expressions)
    return not (value is None or value is False or (_is_sized(value) and not value))


def items(for_each: str, context: Mapping[str, Any], *, expressions: Expressions) -> list[Any]:
    """Return the list that `forEach` finds. Raises `ExpressionFailed` where it finds no list."""
    value = _search(for_each, context, expressions)
    if not isinstance(value, list):
        raise ExpressionFailed(
            f"forEach {for_each!r} gives {_kind(value)}; it must give a list.", expression=for_each
        )
    return value


def render(
    parameters: Mapping[str, Any],
    context: Mapping[str, Any],
    *,
    expressions: Expressions,
    item: Any = None,
    index: int | None = None,
) -> dict[str, Any]:
    """Return the parameters with their templates filled; `index` says that there is an `item`.

    A template that is all of a text keeps the type of what it finds, others become part of the
    text: texts as they are, all else as JSON. Raises `ExpressionFailed`, which names the template.
    """
    known = context if index is None else {**context, "item": item, "index": index}
    return {name: _filled(value, known, expressions) for name, value in parameters.items()}


def _filled(value: Any, context: Mapping[str, Any], expressions: Expressions) -> Any:
    if isinstance(value, Mapping):
        return {name: _filled(one, context, expressions) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, context, expressions) for one in value]
    return _text(value, context, expressions) if isinstance(value, str) else value


def _text(text: str, context: Mapping[str, Any], expressions: Expressions) -> Any:
    if "{{" not in text:
        return text
    try:
        parts = split(text)
    except ValueError as error:
        raise ExpressionFailed(f"Template {text!r}: {error}.", expression=text) from None
    if len(parts) == 1 and isinstance(parts[0], Hole):
        return _found(parts[0], context, expressions)
    return "".join(
        _as_text(_found(part, context, expressions), part) if isinstance(part, Hole) else part
        for part in parts
    )


def _found(hole: Hole, context: Mapping[str, Any], expressions: Expressions) -> Any:
    value = _search(hole.expression, context, expressions)
    if value is None and not expressions.compile(hole.expression).allows_null:
        raise ExpressionFailed(
            f"Template '{hole.text}' finds nothing, or null. Give it a default, "
            f"{{{{ {hole.expression} || 'none' }}}}, or say that null is meant, "
            f"{{{{ {hole.expression} || `null` }}}}.",
            expression=hole.expression,
        )
    return value


def _as_text(value: Any, hole: Hole) -> str:
    if value is None:
        raise ExpressionFailed(
            f"Template '{hole.text}' finds nothing, and stands in a text, which has no null; "
            "give it a default, such as ''.",
            expression=hole.expression,
        )
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _search(text: str, context: Mapping[str, Any], expressions: Expressions) -> Any:
    try:
        return expressions.compile(text).search(context)
    except ValueError as error:
        raise ExpressionFailed(f"Expression {text!r} failed: {error}", expression=text) from None


def _is_sized(value: Any) -> bool:
    return isinstance(value, str | list | dict)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
    return "an object"
