"""JMESPath, as `core.workflows` asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

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
_MAX_SAID: Final = 300
_ASK_NOTHING: Final = frozenset({"expref", "literal"})


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One expression that was read."""

    parsed: ParsedResult

    @property
    def paths(self) -> list[tuple[str, ...]]:
        """The names that it begins with."""
        return list(_paths(self.parsed.parsed))

    @property
    def allows_null(self) -> bool:
        """Whether its last alternative is the literal null."""
        node = self.parsed.parsed
        return node["type"] == "or_expression" and _is_null(node["children"][-1])

    def search(self, context: Mapping[str, Any]) -> Any:
        """Return what it finds. Raises `ValueError`, saying why it cannot."""
        try:
            return self.parsed.search(context)
        except JMESPathError as error:
            raise ValueError(_first_line(error)) from None
        except (ArithmeticError, AttributeError, RecursionError, TypeError) as error:
            # The library lets a few of these through, from functions given odd values.
            raise ValueError(f"{type(error).__name__}: {error}") from None


class JmesPath:
    """Reads JMESPath expressions; the library keeps the last ones that it read."""

    def compile(self, text: str) -> _Compiled:
        """Read one. Raises `ValueError`, saying where it goes wrong."""
        try:
            return _Compiled(jmespath.compile(text))
        except JMESPathError as error:
            raise ValueError(_first_line(error)) from None
        except RecursionError:
            raise ValueError("it is nested too deeply") from None


def _paths(node: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
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


def _subpaths(
    first: Mapping[str, Any], rest: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, ...]]:
    names = list(_fields(rest))
    match first:
        case {"type": "field", "value": name}:
            yield (name, *names)
        case {"type": "current" | "identity"}:
            yield tuple(names)
        case _:
            yield from _paths(first)


def _fields(nodes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Go through the names that lead on from a value, up to what is more than a name."""
    for node in nodes:
        first = node
        while first["type"] in _STEPS:
            first = first["children"][0]
        if first["type"] == "field":
            yield first["value"]
        if first is not node or first["type"] != "field":
            return


def _is_null(node: Mapping[str, Any]) -> bool:
    return node["type"] == "literal" and node["value"] is None


def _first_line(error: Exception) -> str:
    line = str(error).partition("\n")[0].removesuffix(", for expression:").rstrip(":,. ")
    # It quotes what it was given, which may be anything.
    return "".join(char if char.isprintable() else "?" for char in line[:_MAX_SAID])
