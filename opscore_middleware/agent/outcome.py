"""How a unit of work ended, in words that help and do not leak."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from opscore_middleware.agent.failure import Failure, bounded

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
    told = _cause_of(exception)
    return _details(type(told).__qualname__, _message(told), scope)


def describe_status(status: int, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of a failure by status."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Server Error"
    return _details(f"HTTP {status}", phrase, scope)


def describe_failure(failure: Failure, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of a failure that a response tells of."""
    return _details(failure.kind, failure.message, scope)


def describe_unfinished(scope: Mapping[str, Any], *, started: bool) -> dict[str, Any]:
    """Return the details of a response that was never finished, or never started."""
    if not started:
        return _details("ResponseMissing", "the app ended without a response", scope)
    return _details("ResponseUnfinished", "the app ended in the middle of its response", scope)


def describe_unit(exception: BaseException, name: str | None) -> dict[str, Any]:
    """Return the details of a tracked unit that failed."""
    told = _cause_of(exception)
    return _unit_details(type(told).__qualname__, _message(told), name)


def describe_unit_failure(failure: Failure, name: str | None) -> dict[str, Any]:
    """Return the details of a tracked unit that says itself how it failed."""
    return _unit_details(failure.kind, failure.message, name)


def describe_startup(message: str) -> dict[str, Any]:
    """Return the details of a failed startup; servers are handed a whole traceback as text.

    After its last frame come the exception and its message; the rest is source code. The phase
    tells Ops-Core that this keeps work away, which a failed request does not.
    """
    cause = _cause([line for line in message.splitlines() if line.strip()])
    kind, _, text = cause.partition(": ")
    if not text or " " in kind:
        kind, text = "StartupFailed", cause or "no reason given"
    return {"error": {**_error(kind.rpartition(".")[2], text), "phase": STARTUP}}


def _cause(lines: Sequence[str]) -> str:
    """Return the line of a traceback that names the exception; the last one where that is none."""
    if any(_GROUP in line for line in lines):
        lines = [_MARGIN.sub("", line) for line in lines]
    frames = [i for i, line in enumerate(lines) if line.startswith('  File "')]
    said = lines[frames[-1] + 1 :] if frames else ()
    return next((line for line in said if not line.startswith(" ")), "".join(lines[-1:]))


_GROUP: Final = "+ Exception Group Traceback"
_MARGIN: Final = re.compile("^ *[|+] ")


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": bounded(kind), "message": bounded(message)}


def _unit_details(kind: str, message: str, name: str | None) -> dict[str, Any]:
    error = _error(kind, message)
    if name:
        error["where"] = bounded(name)
    return _with_trace({"error": error}, None)


def _details(kind: str, message: str, scope: Mapping[str, Any]) -> dict[str, Any]:
    error = _error(kind, message)
    try:
        where = _where(scope)
    except Exception:
        where = None  # the host's own objects; failing here would put our error in place of theirs
    if where:
        error["where"] = bounded(where)
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
    """Name the method, and the route by its template; the path itself may hold ids.

    Starlette leaves its route in the scope, Litestar the template, many others nothing.
    """
    name = getattr(scope.get("route"), "path", None) or scope.get("path_template")
    endpoint = scope.get("endpoint")
    if not isinstance(name, str):
        name = getattr(endpoint, "__qualname__", None) or type(endpoint).__qualname__
        if endpoint is None:
            name = ""
    return f"{scope.get('method', '')} {name}".strip()


def _cause_of(exception: BaseException) -> BaseException:
    """Return the one failure that a group holds: a task group's own words say nothing of it."""
    while isinstance(exception, BaseExceptionGroup):
        failures = list(filter(is_failure, exception.exceptions))
        if len(failures) != 1:
            break
        (exception,) = failures
    return exception


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:
        return "<no message: its __str__ fails>"
