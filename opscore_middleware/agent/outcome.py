"""How a unit of work ended, in words that help and do not leak."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from opscore_middleware.agent.envelopes import Failure

__all__ = [
    "describe_exception",
    "describe_failure",
    "describe_startup",
    "describe_status",
    "describe_unfinished",
    "describe_unit",
    "describe_unit_failure",
    "is_failure",
    "leaves_with_client",
]

MESSAGE_LIMIT: Final = 500
"""The longest message that is reported, in characters."""

STARTUP: Final = "startup"
"""The phase of a failure that kept the agent from starting."""


def is_failure(exception: BaseException) -> bool:
    """Tell whether an exception means that the work failed.

    Cancellation and the end of the process do not, nor does a group of nothing else. A group is
    looked into however deep it is.
    """
    if isinstance(exception, BaseExceptionGroup):
        return any(is_failure(inner) for inner in exception.exceptions)
    # asyncio's and trio's cancellation derive from BaseException alone.
    return isinstance(exception, Exception)


def leaves_with_client(exception: BaseException) -> bool:
    """Tell whether an exception is one that servers and Starlette raise when a client has left.

    `OSError` is what ASGI asks servers to raise from `send` then; an app's own look the same.
    """
    if isinstance(exception, BaseExceptionGroup):
        return all(leaves_with_client(e) for e in exception.exceptions if is_failure(e))
    names = {kind.__name__ for kind in type(exception).__mro__}
    return isinstance(exception, OSError) or not names.isdisjoint(_LEFT)


_LEFT: Final = frozenset({"ClientDisconnect", "WebSocketDisconnect"})


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


def describe_failure(failure: Failure, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of a failure that a response tells of."""
    return _details(failure.kind, _bounded(failure.message), scope)


def describe_unfinished(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of a response that was started and never finished."""
    return _details("ResponseUnfinished", "the app ended in the middle of its response", scope)


def describe_unit(exception: BaseException, name: str | None) -> dict[str, Any]:
    """Return the details of a tracked unit that failed."""
    error = {"type": type(exception).__qualname__, "message": _message(exception)}
    if name:
        error["where"] = _bounded(name)
    return _with_trace({"error": error}, None)


def describe_unit_failure(failure: Failure, name: str | None) -> dict[str, Any]:
    """Return the details of a tracked unit that says itself how it failed."""
    error = {"type": failure.kind, "message": _bounded(failure.message)}
    if name:
        error["where"] = _bounded(name)
    return _with_trace({"error": error}, None)


def describe_startup(message: str) -> dict[str, Any]:
    """Return the details of a failed startup; servers are handed a whole traceback as text.

    Its last line is the exception and its message; the rest is source code. The phase tells
    Ops-Core that this keeps work away, which a failed request does not.
    """
    lines = [line for line in message.splitlines() if line.strip()]
    kind, _, text = (lines[-1] if lines else "").partition(": ")
    if not text or " " in kind:
        kind, text = "StartupFailed", lines[-1] if lines else "no reason given"
    error = {"type": kind.rpartition(".")[2], "message": _bounded(text), "phase": STARTUP}
    return {"error": error}


def _details(kind: str, message: str, scope: Mapping[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message}
    try:
        where = _where(scope)
    except Exception:
        where = None  # the host's own objects; failing here would put our error in place of theirs
    if where:
        error["where"] = where
    return _with_trace({"error": error}, scope)


def _with_trace(details: dict[str, Any], scope: Mapping[str, Any] | None) -> dict[str, Any]:
    """Add the id of the trace that the failure belongs to, where there is one."""
    try:
        trace_id = _active_trace() or _incoming_trace(scope)
    except Exception:
        trace_id = None  # somebody else's tracing must not hide the failure
    if trace_id is not None:
        details["error"]["trace_id"] = trace_id
    return details


def _active_trace() -> str | None:
    # Only an app that traces has imported it; we never do.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def _incoming_trace(scope: Mapping[str, Any] | None) -> str | None:
    """Read W3C's `traceparent`: version, trace id, parent id, flags."""
    for name, value in () if scope is None else scope.get("headers", ()):
        if name == b"traceparent":
            parts = value.split(b"-")
            if len(parts) >= 4 and len(parts[1]) == 32 and int(parts[1], 16):
                return str(parts[1].decode())
    return None


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
