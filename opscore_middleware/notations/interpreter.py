"""JMESPath that counts what it does, and stops before it comes to too much.

A list of the same value twice is small however large that value is, until somebody writes it out,
compares it or goes through it. So whatever brings several values together is weighed as it is made,
and whatever writes, compares or goes through values pays for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from jmespath.functions import Functions, signature
from jmespath.visitor import Options, TreeInterpreter

from opscore_middleware.core.workflows.budget import Budget

__all__ = ["Interpreter", "Node"]

Node = Any
"""A part of an expression: its `type`, its `children` and what else is said of it."""

_LISTED: Final = 3  # functions go through lists faster than steps are taken, so many times two
_COMPARED: Final = 5  # and characters are compared faster


class Interpreter(TreeInterpreter):
    """Finds what an expression asks for, within a budget. Raises `ValueError` beyond it."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(Options(custom_functions=_Functions(budget)))
        self._budget = budget

    def visit(self, node: Node, *args: Any, **kwargs: Any) -> Any:
        """Find what one part asks for."""
        self._budget.steps -= 1
        if self._budget.steps < 0:
            self._budget.spend(0)
        return super().visit(node, *args, **kwargs)

    def visit_fixed(self, node: Node, value: Any) -> Any:
        """Find what is the same for every item, once."""
        kept = self._budget.kept
        if id(node) not in kept:
            kept[id(node)] = self.visit(node["children"][0], value)
        return kept[id(node)]

    def visit_multi_select_dict(self, node: Node, value: Any) -> Any:
        """Make an object, and weigh it."""
        return self._weighed(super().visit_multi_select_dict(node, value))

    def visit_multi_select_list(self, node: Node, value: Any) -> Any:
        """Make a list, and weigh it."""
        return self._weighed(super().visit_multi_select_list(node, value))

    def visit_flatten(self, node: Node, value: Any) -> Any:
        """Make one list of several; it is paid for before it is made."""
        (child,) = node["children"]
        base = self.visit(child, value)
        if not isinstance(base, list):
            return None
        self._budget.spend(sum(len(one) if isinstance(one, list) else 1 for one in base))
        merged: list[Any] = []
        for one in base:
            if isinstance(one, list):
                merged += one
            else:
                merged.append(one)
        return merged

    def visit_comparator(self, node: Node, value: Any) -> Any:
        """Compare two values."""
        if node["value"] not in ("eq", "ne"):
            return super().visit_comparator(node, value)
        one, other = (self.visit(child, value) for child in node["children"])
        if isinstance(one, list | dict) and isinstance(other, list | dict):
            size = min(self._budget.weigh(one), self._budget.weigh(other))
            self._budget.spend(size >> _COMPARED)
        return self.COMPARATOR_FUNC[node["value"]](one, other)

    def visit_slice(self, node: Node, value: Any) -> Any:
        """Copy a part of a list."""
        if isinstance(value, list):
            self._budget.spend(len(value))
        return super().visit_slice(node, value)

    def _weighed(self, made: Any) -> Any:
        self._budget.weigh(made)
        return made


class _Functions(Functions):
    """JMESPath's functions. Those that make a text say first what it will come to."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        """Call one; it goes through the lists that it is given."""
        arguments = list(resolved_args)
        for argument in arguments:
            if isinstance(argument, list | dict):
                self._budget.spend(len(argument) >> _LISTED)
        if function_name == "contains" and any(
            isinstance(one, list | dict) for one in arguments[1:]
        ):
            self._budget.spend(self._budget.weigh(arguments[0]) >> _COMPARED)
        return super().call_function(function_name, arguments)

    @signature({"types": []})
    def _func_to_string(self, arg: Any) -> Any:
        if isinstance(arg, str):
            return arg
        self._budget.write(self._budget.weigh(arg))
        return json.dumps(arg, separators=(",", ":"), default=str)

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, array: list[str]) -> str:
        self._budget.write(sum(map(len, array)) + len(separator) * len(array))
        return separator.join(array)
