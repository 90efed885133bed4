"""A call as a value: method, path, body, and how to read the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

from opscore_middleware.errors import RemoteError

__all__ = ["JSON", "PREFIX", "Call", "ops_core_refusal", "segment"]

T = TypeVar("T")

PREFIX: Final = "/v1/opscore"
JSON: Final[Mapping[str, str]] = {"Content-Type": "application/json"}


def ops_core_refusal(call: Call[Any], status: int, body: bytes) -> RemoteError | None:
    """Return what an answer of Ops-Core says went wrong, or None for a 2xx."""
    if 200 <= status < 300:
        return None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    detail = answer.get("detail") if isinstance(answer, dict) else None
    code = answer.get("code") if isinstance(answer, dict) else None
    return RemoteError(
        f"{call.method} {call.path} answered {status}: {_said(detail)}",
        remote_status=status,
        remote_code=code if isinstance(code, str) else None,
    )


def _said(detail: Any) -> str:
    """Return a reason as a person reads it: where each fault is, and what is wrong there."""
    faults = detail if isinstance(detail, list) else []
    if not faults or not all(isinstance(fault, dict) for fault in faults):
        return str(detail or "no reason given")
    return "; ".join(
        f"{'.'.join(map(str, where)) if isinstance(where, list) else where}: {fault.get('msg')}"
        for fault in faults
        for where in [fault.get("loc")]
    )


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request; `decode` turns the body of a 2xx answer into its result.

    `answers` holds the other statuses that are an answer too, and what each means. `refusal`
    knows how the server words its errors, and returns None where there is none. `wait` is how long
    the server was asked to leave it open, in seconds.
    """

    method: str
    path: str
    decode: Callable[[bytes], T]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    server: str = "Ops-Core"
    answers: Mapping[int, T] = field(default_factory=dict)
    refusal: Callable[[Call[Any], int, bytes], RemoteError | None] = ops_core_refusal
    wait: float = 0.0

    def result(self, status: int, body: bytes) -> T:
        """Read an answer. Raises `RemoteError` for anything but one in the documented shape."""
        if status in self.answers:
            return self.answers[status]
        refused = self.refusal(self, status, body)
        if refused is not None:
            raise refused
        try:
            return self.decode(body)
        except (ValueError, OverflowError):  # of numbers that are beyond all measure, too
            raise self.foreign(status) from None

    def foreign(self, status: int) -> RemoteError:
        """Return the error that says that somebody else than the server has answered."""
        return RemoteError(
            f"{self.method} {self.path} answered {status} with something that is not "
            f"{self.server}'s; check the address.",
            remote_status=status,
            remote_code=None,
        )


def segment(value: str) -> str:
    """Return a text as one segment of a path."""
    # Plain dots would be taken for a step to another path, on the way or by our own HTTP client.
    # What is no text, as a terminal may pass on, names nobody; the server says so.
    if value in {".", ".."}:
        return "%2E" * len(value)
    return quote(value, safe="", errors="surrogatepass")
