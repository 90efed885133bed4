"""What is wrong with a definition, and where."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["Fault", "Loc", "nearest_name", "path_of"]

Loc = tuple[str | int, ...]
"""Where something is in a document: names of fields and places in lists, from the outside in."""

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
    return f".{part}" if _PLAIN.fullmatch(part) else f"[{json.dumps(part)}]"


def nearest_name(wanted: str, known: Iterable[str]) -> str:
    """Return a question that names what is spelled most like it; nothing where nothing is."""
    near = difflib.get_close_matches(wanted, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
