"""Texts with expressions in them: `Summarise {{ initialPayload.title }}`."""

from __future__ import annotations

from typing import Final, NamedTuple

from opscore_middleware.core.workflows.faults import quoted

__all__ = ["Hole", "split"]

_QUOTES: Final = "'\"`"


class Hole(NamedTuple):
    """A place in a text that an expression fills; `text` is the place as it is written."""

    text: str
    expression: str


def split(text: str) -> list[str | Hole]:
    """Return a text's plain pieces and its holes, in order; plain pieces are never empty.

    Raises `ValueError` for a hole that is not closed, or that holds nothing.
    """
    parts: list[str | Hole] = []
    at = 0
    while (start := text.find("{{", at)) >= 0:
        if start > at:
            parts.append(text[at:start])
        end = _end(text, start + 2)
        expression = text[start + 2 : end].strip()
        if not expression:
            raise ValueError("'{{ }}' holds no expression")
        at = end + 2
        parts.append(Hole(text[start:at], expression))
    if at < len(text):
        parts.append(text[at:])
    return parts


def _end(text: str, start: int) -> int:
    """Return where the `}}` is that belongs to no quoted text and no braces of the expression."""
    quote, depth, at = "", 0, start
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in _QUOTES:
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}":
            if depth == 0 and text.startswith("}}", at):
                return at
            depth -= 1
        at += 1
    raise ValueError(
        f"{quoted(text[start - 2 :])} has no end; close it with '}}}}', or write "
        "{{ '{{' }} for the braces themselves"
    )
