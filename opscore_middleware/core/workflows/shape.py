"""What each field of a definition must look like by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from opscore_middleware.core.workflows.definition import (
    Retry,
    TaskDefinition,
    Timeouts,
    WorkflowDefinition,
)
from opscore_middleware.core.workflows.faults import Fault, Loc, nearest_name, quoted

__all__ = ["shape_faults"]

_PARTS: Final[Mapping[type[BaseModel], Mapping[str, type[BaseModel]]]] = {
    WorkflowDefinition: {"tasks": TaskDefinition},
    TaskDefinition: {"retry": Retry, "timeouts": Timeouts},
    Retry: {},
    Timeouts: {},
}

_WORDS: Final[Mapping[str, Callable[[Any, Mapping[str, Any]], str]]] = {
    "missing": lambda value, limits: "is required",
    "string_type": lambda value, limits: (
        f"must be a text, not {quoted(value)}"
        + ("; put it in quotes" if isinstance(value, int | float) else "")
    ),
    "string_pattern_mismatch": lambda value, limits: (
        f"{quoted(value)} has a character that cannot be in it: no '/' in an id, and no control "
        "characters"
    ),
    "too_short": lambda value, limits: "must not be empty",
    "string_too_short": lambda value, limits: "must not be empty",
    "too_long": lambda value, limits: f"must have at most {limits['max_length']}",
    "timezone_aware": lambda value, limits: (
        f"{quoted(value)} has no offset; write for example 2026-01-31T12:00:00Z"
    ),
    "model_type": lambda value, limits: f"must be an object, not {quoted(value)}",
    "dict_type": lambda value, limits: f"must be an object, not {quoted(value)}",
    "tuple_type": lambda value, limits: f"must be a list, not {quoted(value)}",
}


def shape_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Go through what is wrong with the fields of a definition, each by itself."""
    yield from _unknown(WorkflowDefinition, document, ())
    try:
        WorkflowDefinition.model_validate(document)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            if not _is_told_elsewhere(found):
                yield Fault(found["loc"], _message(found["type"], found, found.get("ctx", {})))


def _is_told_elsewhere(found: Mapping[str, Any]) -> bool:
    if found["type"] == "extra_forbidden":  # by `_unknown`, with what there is instead
        return True
    # Items that are wrong are told of by themselves, and then not counted.
    return found["type"] == "too_short" and bool(found["input"])


def _unknown(model: type[BaseModel], value: Any, loc: Loc) -> Iterator[Fault]:
    if isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from _unknown(model, one, (*loc, place))
    if not isinstance(value, Mapping):
        return
    # The models take Python's names as well; a document has one way to be written.
    known = [to_camel(name) for name in model.model_fields]
    for name, one in value.items():
        if name in _PARTS[model]:
            yield from _unknown(_PARTS[model][name], one, (*loc, name))
        elif name not in known:
            near = nearest_name(str(name), known) or f"; there are {', '.join(known)}"
            yield Fault((*loc, str(name)), f"there is no such field{near}")


def _message(kind: str, found: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
    words = _WORDS.get(kind)
    if words is not None:
        return words(found["input"], limits)
    if kind == "value_error":
        return str(limits["error"]).replace(repr(found["input"]), quoted(found["input"]))
    told: str = found["msg"]
    return f"{quoted(found['input'])}: {told[:1].lower()}{told[1:]}"
