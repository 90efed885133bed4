"""Page cursors: where a list was left, in a form that invites nobody to build one."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final, NoReturn

from opscore_middleware.errors import InvalidCursor

__all__ = ["encode", "event_id", "moment_and_id", "name_and_id", "text"]

_UNKEPT: Final = re.compile(r"[\0\ud800-\udfff]")


def encode(position: Any) -> str:
    """Return the cursor for a position, which is JSON."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _decode(cursor: str) -> Any:
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    parts = position if isinstance(position, list) else [position]
    return position if all(_is_kept(part) for part in parts) else None


def _is_kept(part: Any) -> bool:
    """Tell whether a store can be asked for a text: none can hold half of a character, and not each
    can hold NUL."""
    return not isinstance(part, str) or not _UNKEPT.search(part)


def _bad_cursor(cursor: str) -> NoReturn:
    raise InvalidCursor(
        f"Cursor {cursor!r} is not one that this list handed out; start again without it.",
        cursor=cursor,
    )


def text(cursor: str | None) -> str | None:
    """Read a cursor of a list by id. Raises `InvalidCursor`."""
    if cursor is None:
        return None
    match _decode(cursor):
        case str(position):
            return position
    _bad_cursor(cursor)


def name_and_id(cursor: str | None) -> tuple[str, str] | None:
    """Read a cursor of a list by name. Raises `InvalidCursor`."""
    if cursor is None:
        return None
    match _decode(cursor):
        case [str(name), str(agent_id)]:
            return name, agent_id
    _bad_cursor(cursor)


def event_id(cursor: str | None) -> int | None:
    """Read a cursor of a list by event. Raises `InvalidCursor`."""
    if cursor is None:
        return None
    match _decode(cursor):
        case int(position) if _is_64_bit(position):
            return position
    _bad_cursor(cursor)


def moment_and_id(cursor: str | None) -> tuple[int, str] | None:
    """Read a cursor of a list by time. Raises `InvalidCursor`."""
    if cursor is None:
        return None
    match _decode(cursor):
        case [int(micros), str(session_id)] if _is_64_bit(micros):
            return micros, session_id
    _bad_cursor(cursor)


def _is_64_bit(number: int) -> bool:
    return not isinstance(number, bool) and 0 <= number < 2**63
