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

from opscore_middleware.core.workflows.budget import MAX_SIZE, TOGETHER, Budget
from opscore_middleware.core.workflows.templates import Hole, split
from opscore_middleware.errors import ExpressionFailed

__all__ = ["ITEM_ROOTS", "TASK_FIELDS", "Expression", "Expressions", "Reckoning"]

ITEM_ROOTS: Final = ("item", "index")
"""What the parameters of a task with `forEach` have beside all others."""

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

    @property
    def depth(self) -> int:
        """How many parts it has within one another; to be known before anything else is asked."""
        ...

    @property
    def copies(self) -> int:
        """How often what it is given may stand in what it finds, at most: twice for `[@, @]`."""
        ...

    def search(self, context: Mapping[str, Any], budget: Budget) -> Any:
        """Return what it finds, None for nothing. Raises `ValueError`, saying why it cannot.

        What asks nothing of an item is found once within one budget, which is for one context.
        """
        ...


class Expressions(Protocol):
    """Reads expressions. The core knows what they are for, not how they are written."""

    def compile(self, text: str) -> Expression:
        """Read one. Raises `ValueError`, saying where it goes wrong."""
        ...


class Reckoning:
    """Answers the expressions of one task, from what is known of its run, within one `Budget`."""

    def __init__(
        self, context: Mapping[str, Any], *, expressions: Expressions, budget: Budget | None = None
    ) -> None:
        self.budget = budget or Budget()
        self._context = context
        self._expressions = expressions
        self._read: dict[str, Expression] = {}
        self._split: dict[str, list[str | Hole]] = {}

    def condition(self, when: str) -> bool:
        """Tell whether a condition holds; null, false, and what is empty are false, 0 is not.

        Raises `ExpressionFailed`.
        """
        value = self._search(when, self._context)
        return not (value is None or value is False or (_is_sized(value) and not value))

    def items(self, for_each: str) -> list[Any]:
        """Return the list that `forEach` finds. Raises `ExpressionFailed` where it finds none."""
        value = self._search(for_each, self._context)
        if not isinstance(value, list):
            raise ExpressionFailed(
                f"forEach {for_each!r} gives {_kind(value)}; it must give a list.",
                expression=for_each,
            )
        return value

    def render(
        self, parameters: Mapping[str, Any], *, item: Any = None, index: int | None = None
    ) -> dict[str, Any]:
        """Return the parameters with their templates filled; `index` says that there is an `item`.

        A template that is all of a text keeps the type of what it finds, others become part of the
        text: texts as they are, all else as JSON. Raises `ExpressionFailed`, which names the
        template, also where all comes to more than `MAX_SIZE` characters.
        """
        context = self._context
        known = context if index is None else {**context, "item": item, "index": index}
        filling = _Filling(self, known)
        return {name: filling.filled(value) for name, value in parameters.items()}

    def parts(self, text: str) -> list[str | Hole]:
        """Return what a text with templates is made of. Raises `ExpressionFailed`."""
        parts = self._split.get(text)
        if parts is None:
            try:
                parts = self._split[text] = split(text)
            except ValueError as error:
                raise ExpressionFailed(f"Template {text!r}: {error}.", expression=text) from None
        return parts

    def found(self, hole: Hole, known: Mapping[str, Any]) -> tuple[Any, int]:
        """Return what a template finds, and how many characters it comes to."""
        text = hole.expression
        value = self._search(text, known)
        if value is None and not self._read[text].allows_null:
            raise ExpressionFailed(
                f"Template '{hole.text}' finds nothing, or null. Give it a default, "
                f"{{{{ {text} || 'none' }}}}, or say that null is meant, "
                f"{{{{ {text} || `null` }}}}.",
                expression=text,
            )
        try:
            return value, self.budget.weigh(value)
        except ValueError as error:
            raise _failed(text, error) from None

    def _search(self, text: str, known: Mapping[str, Any]) -> Any:
        try:
            expression = self._read.get(text)
            if expression is None:
                expression = self._read[text] = self._expressions.compile(text)
            return expression.search(known, self.budget)
        except ValueError as error:
            raise _failed(text, error) from None


class _Filling:
    """One task's parameters, or one item's, while their templates are filled."""

    def __init__(self, reckoning: Reckoning, known: Mapping[str, Any]) -> None:
        self._reckoning = reckoning
        self._known = known
        self._size = 0

    def filled(self, value: Any) -> Any:
        """Return a value with its templates filled."""
        if isinstance(value, Mapping):
            return {name: self.filled(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.filled(one) for one in value]
        return self._text(value) if isinstance(value, str) and "{{" in value else value

    def _text(self, text: str) -> Any:
        parts = self._reckoning.parts(text)
        if len(parts) == 1 and isinstance(parts[0], Hole):
            return self._found(parts[0])
        return "".join(
            _as_text(self._found(part), part) if isinstance(part, Hole) else part for part in parts
        )

    def _found(self, hole: Hole) -> Any:
        value, size = self._reckoning.found(hole, self._known)
        self._size += size
        self._reckoning.budget.room -= size
        if self._size > MAX_SIZE or self._reckoning.budget.room < 0:
            whose, most = "the parameters", MAX_SIZE
            if self._size <= MAX_SIZE:
                whose, most = "those of all tasks that begin together", TOGETHER * MAX_SIZE
            raise ExpressionFailed(
                f"With template '{hole.text}' {whose} come to more than {most:,} characters. Give "
                "the task what it needs alone, or a reference to it.",
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


def _failed(text: str, error: ValueError) -> ExpressionFailed:
    return ExpressionFailed(f"Expression {text!r} failed: {error}", expression=text)


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
