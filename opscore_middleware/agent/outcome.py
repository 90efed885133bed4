"""How a unit of work ended, in words that help and do not leak."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

__all__ = ["describe_exception", "describe_startup", "describe_status", "is_failure"]

MESSAGE_LIMIT: Final = 500
"""The longest message that is reported, in characters."""


def is_failure(exception: BaseException) -> bool:
    """Tell whether an exception means that the work failed.

    Cancellation and the end of the process do not, nor does a group of nothing else. A group is
    looked into however deep it is.
    """
    if isinstance(exception, BaseExceptionGroup):
        return any(is_failure(inner) for inner in exception.exceptions)
    # asyncio's and trio's cancellation derive from BaseException alone.
    return isinstance(exception, Exception)


def describe_exception(exception: BaseException, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of a failure by exception: its class, its message and where."""
    return _details(type(exception).__qualname__, _message(exception), scope)


def describe_status(status: int, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of a failure by status."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Server Error"
    return _details(f"HTTP {status}", phrase, scope)


def describe_startup(message: str) -> dict[str, Any]:
    """Return the details of a failed startup; servers are handed a whole traceback as text.

    Its last line is the exception and its message; the rest is source code.
    """
    lines = [line for line in message.splitlines() if line.strip()]
    kind, _, text = (lines[-1] if lines else "").partition(": ")
    if not text or " " in kind:
        kind, text = "StartupFailed", lines[-1] if lines else "no reason given"
    return {"error": {"type": kind.rpartition(".")[2], "message": _bounded(text)}}


def _details(kind: str, message: str, scope: Mapping[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message}
    try:
        where = _where(scope)
    except Exception:
        where = None  # the host's own objects; failing here would put our error in place of theirs
    if where:
        error["where"] = where
    return {"error": error}


def _where(scope: Mapping[str, Any]) -> str | None:
    """Name the route by its template; the path itself may hold ids."""
    template = getattr(scope.get("route"), "path", None)
    if isinstance(template, str):
        return f"{scope.get('method', '')} {template}".strip()
    endpoint = scope.get("endpoint")
    name = getattr(endpoint, "__qualname__", None) or type(endpoint).__qualname__
    return f"{scope.get('method', '')} {name}".strip() if endpoint is not None else None


def _message(exception: BaseException) -> str:
    try:
        return _bounded(str(exception))
    except Exception:
        return "<no message: its __str__ fails>"


def _bounded(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"
