"""A bound on a call as a whole, for httpx, which bounds each of its waits by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Self

import httpx

__all__ = ["extensions"]

_STEPS: Final = ("pool", "connect", "write", "read")
_LEAST: Final = 0.001  # seconds; none at all would mean not to wait
_CONNECTED: Final = ("connect_tcp.complete", "start_tls.complete")


def extensions(seconds: float) -> dict[str, Any]:
    """Return what makes a request without async end, one way or the other, after so many seconds.

    A server that says a byte now and then would keep its caller for ever, since httpx waits for
    each of them anew. So each step gets what is left, and what reads asks again each time.
    """
    return {"timeout": _Timeouts(time.monotonic() + seconds), "trace": _bound}


class _Left(float):
    """The seconds that were left until a moment when somebody asked."""

    until: float

    def __new__(cls, until: float) -> Self:
        left = super().__new__(cls, max(until - time.monotonic(), _LEAST))
        left.until = until
        return left


class _Timeouts(dict[str, float]):
    """The timeouts of a request, each of them what is left of one time when it is asked for."""

    def __init__(self, until: float) -> None:
        super().__init__(dict.fromkeys(_STEPS, _Left(until)))
        self._until = until

    def __getitem__(self, step: str) -> float:
        return _Left(self._until)

    def get(self, step: str, default: Any = None) -> float:
        return self[step]


def _bound(event: str, info: Mapping[str, Any]) -> None:
    """Make a new connection ask what is left. Called with each step that a request takes."""
    if event.endswith(_CONNECTED):
        stream = info["return_value"]
        stream.read = partial(_read, stream.read)


def _read(read: Callable[..., bytes], max_bytes: int, timeout: float | None = None) -> bytes:
    if isinstance(timeout, _Left):
        if time.monotonic() >= timeout.until:
            raise httpx.ReadTimeout("the answer came too slowly")
        timeout = _Left(timeout.until)
    return read(max_bytes, timeout)
