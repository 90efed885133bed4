"""Workflow definitions in files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from opscore_middleware.core.workflows.definition import WorkflowDefinition
from opscore_middleware.core.workflows.faults import Loc, path_of
from opscore_middleware.core.workflows.validation import check
from opscore_middleware.errors import ConfigurationError, InvalidInput
from opscore_middleware.notations.cron import next_run
from opscore_middleware.notations.documents import MAX_BYTES, read_document
from opscore_middleware.notations.expressions import JmesPath

__all__ = ["FileFault", "is_file_name", "look_at"]

_SUFFIXES: Final = frozenset({".json", ".yaml", ".yml"})


class FileFault(NamedTuple):
    """One fault of a file; `line` is None where its place is not known."""

    path: str
    message: str
    line: int | None


def is_file_name(text: str) -> bool:
    """Tell whether a text names a file, rather than a definition by its id."""
    return text == "-" or "/" in text or Path(text).suffix in _SUFFIXES


def look_at(file: Path) -> WorkflowDefinition | list[FileFault]:
    """Return the definition in a file, or everything that is wrong with it.

    Raises `ConfigurationError` where there is no file.
    """
    try:
        document = read_document(_bytes(file))
    except InvalidInput as error:
        return [FileFault("", error.message, error.context.get("line"))]
    found = check(document.value, expressions=JmesPath(), cron=next_run)
    if not found:
        return WorkflowDefinition.model_validate(document.value)
    return [
        FileFault(fault.path, fault.message, _line(document.lines, fault.loc)) for fault in found
    ]


def _bytes(file: Path) -> bytes:
    try:
        if str(file) == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror or error}.") from None


def _line(lines: Mapping[str, int], loc: Loc) -> int | None:
    """Return the line of a place, or of what it is missing from."""
    for end in range(len(loc), -1, -1):
        line = lines.get(path_of(loc[:end]))
        if line is not None:
            return line
    return None
