"""Spans of time as people write them: `500ms`, `30s`, `15m`, `2h`, `90d`, or seconds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from opscore_middleware.core.clock import SECOND

__all__ = ["LONGEST", "Span", "parse_duration", "seconds"]

_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPELLED: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhd]?)\s*", re.ASCII)

LONGEST: Final = 100 * 365 * 86400 * SECOND
"""The longest span that is taken, in microseconds: a hundred years."""


def parse_duration(text: str) -> int:
    """Return a span in microseconds. Raises `ValueError`, saying how to write one."""
    micros = round((_spelled(text) or 0) * SECOND)
    if not 0 < micros <= LONGEST:
        raise ValueError(
            f"{text!r} is no span of time above zero and below a hundred years; write for example "
            "30s, 15m, 2h or 90d"
        )
    return micros


def seconds(text: str) -> float:
    """Return a span in seconds; none at all is one too. Raises `ValueError`."""
    found = _spelled(text)
    if found is None:
        raise ValueError(f"{text!r} is no span of time; write for example 30s or 500ms")
    return found


def _spelled(text: str) -> float | None:
    found = _SPELLED.fullmatch(text)
    return float(found[1]) * _UNITS[found[2]] if found else None


def _seconds(value: Any) -> Any:
    return seconds(value) if isinstance(value, str) else value


Span = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, le=LONGEST / SECOND, allow_inf_nan=False),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}],
            "examples": ["2h", 7200],
        }
    ),
]
"""A time of so many seconds, written as a number or with a unit: `30s`, `15m`, `2h`, `90d`."""
