"""What callers name in a call, held against the rules before it is sent."""

from __future__ import annotations

import re
import reprlib
from typing import Final

from opscore_middleware.core.names import LONGEST_NAME
from opscore_middleware.errors import InvalidInput
from opscore_middleware.protocol.call import segment

__all__ = ["as_segment", "checked_idempotency_key", "checked_query", "checked_version"]

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_LONGEST_QUERY: Final = 16_384
"""Well below the size that servers and proxies take the head of a request in."""


def as_segment(value: object, name: str) -> str:
    """Return an id, or a name in its place, as one segment of a path. Raises `InvalidInput`."""
    # What else is wrong with it the server says, which knows what there is instead.
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_NAME:
        raise InvalidInput(
            f"{name}={reprlib.repr(value)} names nobody: it must be a text of 1 to {LONGEST_NAME} "
            "characters; copy it from a list of what there is.",
            name=name,
        )
    return segment(value)


def checked_idempotency_key(key: object) -> str:
    """Return a key that can travel in a header. Raises `InvalidInput`."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InvalidInput(
            f"idempotency_key={reprlib.repr(key)} cannot be sent: it must be 1 to 255 printable "
            "ASCII characters without spaces; a UUID will do.",
            name="idempotency_key",
        )
    return key


def checked_version(version: object) -> int:
    """Return the version of a definition. Raises `InvalidInput`."""
    if not isinstance(version, int) or version < 1:
        raise InvalidInput(
            f"version={reprlib.repr(version)} is none: versions are whole numbers from 1; leave it "
            "out for the latest.",
            name="version",
        )
    return version


def checked_query(encoded: str, given: dict[str, object]) -> str:
    """Return a query that servers take. Raises `InvalidInput`, which names its longest part."""
    if len(encoded) > _LONGEST_QUERY:
        name, value = max(given.items(), key=lambda item: len(str(item[1])))
        raise InvalidInput(
            f"{name}={reprlib.repr(value)} is too long: a query may have {_LONGEST_QUERY:,} "
            "characters in all; shorten it.",
            name=name,
        )
    return encoded
