"""JMESPath, as `core.workflows` asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from math import prod
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from opscore_middleware.core.workflows.budget import MAX_SIZE, Budget
from opscore_middleware.core.workflows.expressions import ITEM_ROOTS
from opscore_middleware.notations.interpreter import Interpreter, Node

__all__ = ["JmesPath"]

# What these find comes from their first part; the rest is asked of that, not of the context.
_STEPS: Final = frozenset(
    {
        "filter_projection",
        "flatten",
        "index_expression",
        "pipe",
        "projection",
        "value_projection",
    }
)
# These ask all of their parts of the same.
_BESIDE: Final = frozenset(
    {
        "and_expression",
        "comparator",
        "function_expression",
        "key_val_pair",
        "multi_select_dict",
        "multi_select_list",
        "not_expression",
        "or_expression",
    }
)
# What is found at once, or is no value by itself.
_NEVER_MARKED: Final = frozenset({"expref", "field", "key_val_pair", "literal"})
_KEPT: Final = 128
_MAX_SAID: Final = 300
_ASK_NOTHING: Final = frozenset({"expref", "literal"})


class _Compiled:
    """One expression that was read."""

    def __init__(self, parsed: ParsedResult) -> None:
        self.parsed = parsed

    @cached_property
    def _marked(self) -> Node:
        return _marked(self.parsed.parsed)

    @property
    def paths(self) -> list[tuple[str, ...]]:
        """The names that it begins with."""
        return list(_paths(self.parsed.parsed))

    @property
    def allows_null(self) -> bool:
        """Whether its last alternative is the literal null."""
        node = self.parsed.parsed
        return node["type"] == "or_expression" and _is_null(node["children"][-1])

    @property
    def depth(self) -> int:
        """How many parts it has within one another."""
        return _depth(self.parsed.parsed)

    @property
    def copies(self) -> int:
        """How often what it is given may stand in what it finds, at most."""
        return _copies(self.parsed.parsed)

    def search(self, context: Mapping[str, Any], budget: Budget) -> Any:
        """Return what it finds. Raises `ValueError`, saying why it cannot."""
        budget.text = MAX_SIZE
        try:
            return Interpreter(budget).visit(self._marked, context)
        except JMESPathError as error:
            raise ValueError(_first_line(error)) from None
        except (ArithmeticError, AttributeError, RecursionError, TypeError) as error:
            # The library lets a few of these through, from functions given odd values.
            raise ValueError(f"{type(error).__name__}: {error}") from None


class JmesPath:
    """Reads JMESPath expressions."""

    def compile(self, text: str) -> _Compiled:
        """Read one. Raises `ValueError`, saying where it goes wrong."""
        try:
            return _compiled(text)
        except JMESPathError as error:
            raise ValueError(_first_line(error)) from None
        except RecursionError:
            raise ValueError("it is nested too deeply") from None


@lru_cache(_KEPT)
def _compiled(text: str) -> _Compiled:
    return _Compiled(jmespath.compile(text))


def _paths(node: Node) -> Iterator[tuple[str, ...]]:
    match node:
        case {"type": "field", "value": name}:
            yield (name,)
        case {"type": "current" | "identity"}:
            yield ()
        case {"type": "subexpression", "children": [first, *rest]}:
            yield from _subpaths(first, rest)
        case {"type": kind, "children": [first, *_]} if kind in _STEPS:
            yield from _paths(first)
        case {"type": kind, "children": children} if kind not in _ASK_NOTHING:
            for child in children:
                yield from _paths(child)


def _subpaths(first: Node, rest: Sequence[Node]) -> Iterator[tuple[str, ...]]:
    names = list(_fields(rest))
    match first:
        case {"type": "field", "value": name}:
            yield (name, *names)
        case {"type": "current" | "identity"}:
            yield tuple(names)
        case _:
            yield from _paths(first)


def _fields(nodes: Sequence[Node]) -> Iterator[str]:
    """Go through the names that lead on from a value, up to what is more than a name."""
    for node in nodes:
        first = node
        while first["type"] in _STEPS:
            first = first["children"][0]
        if first["type"] == "field":
            yield first["value"]
        if first is not node or first["type"] != "field":
            return


def _marked(node: Node) -> Node:
    """Return an expression with those parts marked as fixed that ask nothing of an item."""
    kind, children = node["type"], node["children"]
    if kind not in _NEVER_MARKED and all(p and p[0] not in ITEM_ROOTS for p in _paths(node)):
        return {"type": "fixed", "children": [node]}
    if kind in _BESIDE:
        return {**node, "children": list(map(_marked, children))}
    if kind in _STEPS or kind == "subexpression":
        return {**node, "children": [_marked(children[0]), *children[1:]]}
    return node


def _depth(node: Node) -> int:
    depth, level = 0, [node]
    while level:
        depth += 1
        # A slice has numbers for children.
        level = [child for one in level for child in one["children"] if isinstance(child, dict)]
    return depth


def _copies(node: Node) -> int:
    """Count the places that one value may have in what is found; a part that copies nothing is 1,
    since what follows it may still copy that."""
    match node:
        case {"type": "multi_select_dict" | "multi_select_list", "children": children}:
            return sum(map(_copies, children))
        case {"type": "function_expression", "value": "map", "children": children}:
            return prod(map(_copies, children))
        case {"type": "function_expression", "children": [_, *_] as children}:
            return sum(map(_copies, children))
        case {"type": "filter_projection", "children": [base, found, _]}:
            return _copies(base) * _copies(found)
        case {"type": "and_expression" | "or_expression", "children": children}:
            return max(map(_copies, children))
        case {"type": "comparator" | "slice"}:
            return 1
        case {"children": children}:
            return prod(map(_copies, children))
    return 1


def _is_null(node: Node) -> bool:
    return node["type"] == "literal" and node["value"] is None


def _first_line(error: Exception) -> str:
    line = str(error).partition("\n")[0].removesuffix(", for expression:").rstrip(":,. ")
    # It quotes what it was given, which may be anything.
    return "".join(char if char.isprintable() else "?" for char in line[:_MAX_SAID])
