"""A failure as it is told."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["KIND_LIMIT", "Failure", "Shown", "bounded"]

MESSAGE_LIMIT: Final = 500
"""The longest message that is taken, in characters."""
KIND_LIMIT: Final = 100
"""The same of what kind of failure it is."""


class Failure(NamedTuple):
    """What failed, and the failing side's own words for it; bounded and fit to be sent."""

    kind: str
    message: str


class Shown(Failure):
    """One that an object tells of by its state: of the call that shows it only if that worked."""

    __slots__ = ()


def bounded(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return a text cut to size, without what JSON or a database cannot hold."""
    text = text[: limit + 1].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text if len(text) <= limit else text[: limit - 1] + "…"
