"""Which of Ops-Core's tasks a request carries."""

from __future__ import annotations

import re
from collections import deque
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

__all__ = ["HEADERS", "TASK_HEADER", "Task", "TaskPeek", "find_task", "find_task_in_headers"]

HEAD: Final = 64 * 1024
"""Bytes at a body's start that are looked at."""
TAIL: Final = 4 * 1024
"""Bytes at a longer body's end that are looked at."""
ID_LIMIT: Final = 200
"""The longest id or name that is taken, in characters."""

HEADERS: Final = ("X-OpsCore-Task-Id", "X-OpsCore-Session-Id", "X-OpsCore-Task-Name")
"""What says the same in a request's headers, in UTF-8; a body that names a task goes first."""

_FIELDS: Final = ("opscore_task_id", "opscore_session_id", "task_name")
TASK_TOKEN: Final = b"opscore_task_id"
"""What a body bears that names a task."""
_MOST_OBJECTS: Final = 2_000
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_PATTERNS: Final = tuple(
    re.compile(rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*+")' % field.encode()) for field in _FIELDS
)
_HEADER_NAMES: Final = tuple(name.lower().encode() for name in HEADERS)
TASK_HEADER: Final = _HEADER_NAMES[0]
"""Without this one the others say nothing."""


class Task(NamedTuple):
    """The task, its session and its name, as they came."""

    task_id: str
    session_id: str | None = None
    name: str | None = None

    def details(self) -> dict[str, str]:
        """Return what a report says of the task."""
        return {field: value for field, value in zip(_FIELDS, self, strict=True) if value}


def find_task(body: bytes) -> Task | None:
    """Return the task that a whole body names in its first 64 KiB or its last 4. Never raises."""
    try:
        if len(body) <= HEAD + TAIL:
            return _find(body, whole=True) if body.find(TASK_TOKEN) >= 0 else None
        return _find_in_ends(body[:HEAD], body[-TAIL:])
    except Exception:
        return None  # no body that a server sends; the app will see to it


def find_task_in_headers(headers: object) -> Task | None:
    """Return the task that a request's headers name. Never raises.

    Args:
        headers: as ASGI has them: pairs of bytes, names in lower case.
    """
    if not isinstance(headers, list | tuple):
        return None
    try:
        for name, value in headers:
            if name == TASK_HEADER and value:
                said = dict(headers)
                return _task(*(_decoded(said.get(name)) for name in _HEADER_NAMES))
    except Exception:
        return None  # not headers, whatever they are: the app will see to them
    return None


class TaskPeek:
    """Finds the task in a body that comes in parts, keeping no more than is looked at."""

    __slots__ = ("_head", "_size", "_tail", "_whole")

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = b""
        self._size = 0
        self._whole = False

    def feed(self, chunk: bytes, more: bool) -> Task | None:
        """Take a part; with the last one, return the task that the body names. Never raises."""
        try:
            if not more and not self._size:
                return find_task(chunk)
            self._keep(chunk)
        except Exception:
            return None  # no body that a server sends; the app will see to it
        if more:
            return None
        self._whole = True
        return self.task()

    def task(self) -> Task | None:
        """Return the task that is named by what came so far. Never raises."""
        try:
            head = bytes(self._head)
            if self._size <= HEAD + TAIL:
                return _find(head + self._tail, whole=self._whole)
            return _find_in_ends(head, self._tail)
        except Exception:
            return None

    def _keep(self, chunk: bytes) -> None:
        self._size += len(chunk)
        room = HEAD - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if chunk:
            self._tail = (self._tail + chunk[-TAIL:])[-TAIL:]


def _find(body: bytes, *, whole: bool) -> Task | None:
    """Find the task in a body, or in the beginning of one."""
    if body.find(TASK_TOKEN) < 0:
        return None
    try:
        value = from_json(body, allow_partial=not whole)
    except ValueError:
        return _match(body, last=False)  # half a surrogate pair, say: the app may be less strict
    return _named_at_top(value) or _named_below(value)


def _find_in_ends(head: bytes, tail: bytes) -> Task | None:
    """Find the task in both ends of a body; below the top level its end goes first."""
    value: object = None
    if head.find(TASK_TOKEN) >= 0:
        try:
            value = from_json(head, allow_partial=True)
        except ValueError:
            return _match(head, last=False) or _match(tail, last=True)
    return _named_at_top(value) or _match(tail, last=True) or _named_below(value)


def _named_at_top(value: object) -> Task | None:
    if isinstance(value, dict) and _FIELDS[0] in value:
        return _task(*map(value.get, _FIELDS))
    return None


def _named_below(value: Any) -> Task | None:
    """Look through what is nested, the shallowest first."""
    queue = deque([value] if isinstance(value, dict | list) else [])
    for _ in range(_MOST_OBJECTS):
        if not queue:
            return None
        value = queue.popleft()
        found = _named_at_top(value)
        if found is not None:
            return found
        if isinstance(value, dict):
            value = value.values()
        queue.extend(inner for inner in value if isinstance(inner, dict | list))
    return None


def _match(text: bytes, *, last: bool) -> Task | None:
    """Find the task in a text that is no whole JSON."""
    values: list[object] = []
    for pattern in _PATTERNS:
        found = pattern.findall(text)
        try:
            values.append(from_json(found[-1 if last else 0]) if found else None)
        except ValueError:
            values.append(None)
    return _task(*values)


def _task(task_id: object, session_id: object, name: object) -> Task | None:
    known = _fit(task_id)
    return None if known is None else Task(known, _fit(session_id), _fit(name))


def _fit(value: object) -> str | None:
    if not isinstance(value, str) or not 0 < len(value) <= ID_LIMIT or _CONTROL.search(value):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None  # half a surrogate pair cannot travel
    return value


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode().strip()
    except UnicodeDecodeError:
        return None
