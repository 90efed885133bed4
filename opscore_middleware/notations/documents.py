"""Documents that people write, in JSON or YAML, read into plain values.

YAML as JSON would have it: the types of YAML 1.2's core schema, so that `no` is a text and a date
stays as it is written. Nothing is built from tags, no name may stand twice in one object, and there
are no aliases, with which a few lines become a billion values.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import takewhile
from typing import Any, Final, NamedTuple

import yaml

from opscore_middleware.core.workflows.faults import Loc, path_of
from opscore_middleware.errors import InvalidInput

__all__ = ["MAX_BYTES", "Document", "read_document", "repeated_names"]

MAX_BYTES: Final = 256 * 1024
"""How large a document may be."""
_MAX_DEPTH: Final = 120
# The one in C is ten times as fast, where PyYAML was built with it.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(NamedTuple):
    """What a text spells; `lines` has the line of each place of a YAML text, from 1, by path."""

    value: Any
    lines: Mapping[str, int]


def read_document(text: str | bytes) -> Document:
    """Read a text: JSON when it begins as an object or a list does, else YAML.

    Raises `InvalidInput`, saying where it goes wrong.
    """
    if len(text) > MAX_BYTES:
        raise InvalidInput(f"The document has more than {MAX_BYTES:,} bytes.", limit=MAX_BYTES)
    try:
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The document is not UTF-8: {error}.") from None
    try:
        if plain.lstrip().startswith(("{", "[")):
            return Document(_json(plain), {})
        return _yaml(plain)
    except RecursionError:
        raise InvalidInput("The document is nested too deeply.") from None


def repeated_names(text: str | bytes) -> list[Loc]:
    """Return where a JSON text has a name a second time in one object; nothing of what is no JSON.

    Whoever reads such an object takes one of the two and passes over the other.
    """
    try:
        _, repeats = _parsed(text)
    except (ValueError, RecursionError):
        return []  # whoever reads it says what is wrong with it
    return repeats


class _Repeats(dict[str, Any]):
    """An object in which names stood twice, and which."""

    names: Collection[str] = ()


def _json(text: str) -> Any:
    try:
        value, repeats = _parsed(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"The document is not JSON: {error}.", line=error.lineno) from None
    except ValueError as error:
        raise InvalidInput(f"The document is not JSON: {error}.") from None
    if repeats:
        where = path_of(repeats[0])
        raise InvalidInput(
            f"The document is not JSON: {repeats[0][-1]!r} stands twice in one object ({where})."
        )
    return value


def _parsed(text: str | bytes, **options: Any) -> tuple[Any, list[Loc]]:
    """Return what a JSON text spells, and where names stand twice."""
    has_any = False

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_any
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        has_any = True
        marked = _Repeats(found)
        counts = Counter(name for name, _ in pairs)
        marked.names = [name for name, count in counts.items() if count > 1]
        return marked

    value = json.loads(text, object_pairs_hook=as_object, **options)
    return value, list(_repeats((), value)) if has_any else []


def _repeats(loc: Loc, value: Any) -> Iterator[Loc]:
    if isinstance(value, _Repeats):
        yield from ((*loc, name) for name in value.names)
    if isinstance(value, dict | list):
        for place, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _repeats((*loc, place), one)


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _yaml(text: str) -> Document:
    try:
        return _read(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidInput(
            f"The document is not YAML: {error.problem or error.context}{_where(mark)}.",
            **({} if mark is None else {"line": mark.line + 1}),
        ) from None
    except yaml.YAMLError as error:
        told = str(error).partition("\n")[0]
        raise InvalidInput(f"The document is not YAML: {told}.") from None


def _read(events: Iterator[Any]) -> Document:
    """Read the only document of a stream. Nothing is built but values, and nothing twice."""
    lines: dict[str, int] = {}
    found: list[Any] = []
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent) and found:
            raise _at(event, "there is another document in it")
        if isinstance(event, yaml.NodeEvent):
            found.append(_value(event, events, (), lines))
    return Document(found[0] if found else None, lines)


def _where(mark: Any) -> str:
    return "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _at(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH: Final = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,4000}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def _value(event: Any, events: Iterator[Any], loc: Loc, lines: dict[str, int]) -> Any:
    lines.setdefault(path_of(loc), _line(event))
    if len(loc) > _MAX_DEPTH:
        raise RecursionError
    if isinstance(event, yaml.AliasEvent):
        raise _at(event, f"*{event.anchor} is an alias; write out what it stands for")
    if event.tag is not None:
        raise _at(event, f"the tag {event.tag} means nothing here")
    if isinstance(event, yaml.MappingStartEvent):
        return dict(_pairs(events, loc, lines))
    if isinstance(event, yaml.SequenceStartEvent):
        items = takewhile(lambda one: not isinstance(one, yaml.SequenceEndEvent), events)
        return [_value(one, events, (*loc, place), lines) for place, one in enumerate(items)]
    return _scalar(event.value, is_quoted=bool(event.style))


def _pairs(events: Iterator[Any], loc: Loc, lines: dict[str, int]) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            return
        if not isinstance(key, yaml.ScalarEvent):
            raise _at(key, "a name is a text, not a list, an object or an alias")
        name: str = key.value
        if name in seen:
            raise _at(key, f"{name!r} stands twice in one object")
        seen.add(name)
        lines[path_of((*loc, name))] = _line(key)
        yield name, _value(next(events), events, (*loc, name), lines)


def _scalar(text: str, *, is_quoted: bool) -> Any:
    if is_quoted:
        return text
    if text in _NULL:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
