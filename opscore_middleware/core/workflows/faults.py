"""What is wrong with a definition, and where."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

__all__ = ["Fault", "Loc", "nearest_name", "path_of", "plain", "quoted"]

Loc = tuple[str | int, ...]
"""Where something is in a document: names of fields and places in lists, from the outside in."""

_MAX_SHOWN: Final = 80
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Fault(NamedTuple):
    """One fault and where it is."""

    loc: Loc
    message: str

    @property
    def path(self) -> str:
        """The place as people write it: `tasks[2].dependsOn[0]`."""
        return path_of(self.loc)


def path_of(loc: Loc) -> str:
    """Return a place as people write it."""
    return "".join(_step(part) for part in loc).removeprefix(".")


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    if _PLAIN.fullmatch(part) and len(part) <= _MAX_SHOWN:
        return f".{part}"
    return f"[{json.dumps(_cut(part))}]"


def nearest_name(wanted: str, known: Iterable[str]) -> str:
    """Return a question that names what is spelled most like it; nothing where nothing is."""
    if len(wanted) > _MAX_SHOWN:  # nobody's typing mistake, and dear to compare
        return ""
    near = difflib.get_close_matches(wanted, list(known), n=1)
    return f" (did you mean {quoted(near[0])}?)" if near else ""


def quoted(value: Any) -> str:
    """Return a value as a fault shows it: on one line, in quotes where it is a text, and short."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # too deep, or a number of thousands of digits
        return "what was given"
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def plain(name: str) -> str:
    """Return a name without quotes, unless it holds what cannot be shown."""
    return name if name.isprintable() and len(name) <= _MAX_SHOWN else quoted(name)
