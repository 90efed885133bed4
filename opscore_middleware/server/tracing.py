"""Traces of the server's own, where the operator asks OpenTelemetry's environment for them.

Nothing of OpenTelemetry's SDK is loaded unless they are asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from starlette.types import ASGIApp

from opscore_middleware.errors import ConfigurationError, MissingExtra

__all__ = ["Wrap", "inject", "span", "traceparent", "tracing"]

Wrap = Callable[[ASGIApp], ASGIApp]
"""Puts what traces requests around an app; returns the app itself where nothing is traced."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN: Final = "http/protobuf"
_SCOPE: Final = "opscore_middleware"
_EXPORTERS: Final = frozenset({"otlp", "console"})


@contextmanager
def tracing() -> Iterator[Wrap]:
    """Trace what the app that is wrapped answers, until the block ends.

    Off unless OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_TRACES_EXPORTER is set. Raises
    `ConfigurationError` for values that cannot be used, `MissingExtra` without the `otel` extra.
    """
    exporters = _wanted()
    if not exporters:
        yield _as_it_is
        return
    try:
        # OpenTelemetry is an extra of its own.
        from opscore_middleware.server.spans import Tracing
    except ModuleNotFoundError as error:
        # Only somebody else's module can be an extra that is missing.
        if (error.name or "").startswith("opscore_middleware"):
            raise
        raise MissingExtra("Tracing", "otel") from error
    traces = Tracing.exporting(exporters)
    try:
        yield traces.wrap
    finally:
        traces.close()


def inject(headers: MutableMapping[str, str]) -> None:
    """Add the trace of what is going on to the headers of a request to somebody else.

    Does nothing where nothing is traced.
    """
    propagate = sys.modules.get("opentelemetry.propagate")
    if propagate is not None:
        propagate.inject(headers)


def traceparent() -> str | None:
    """Return what is going on, as W3C spells it, for what comes of it later.

    None where nothing is traced.
    """
    if sys.modules.get("opentelemetry.trace") is None:
        return None
    carried: dict[str, str] = {}
    _w3c().inject(carried)
    return carried.get("traceparent")


def span(
    name: str, attributes: Mapping[str, str], *, parent: str | None = None
) -> AbstractContextManager[object]:
    """Trace what a block asks of somebody else, as a part of `parent`, which `traceparent` has
    returned, else of what is going on.

    Does nothing where nothing is traced.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return nullcontext()
    traced: AbstractContextManager[object] = trace.get_tracer(_SCOPE).start_as_current_span(
        name,
        context=None if parent is None else _w3c().extract({"traceparent": parent}),
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        # Messages of errors may hold what nobody else is to see.
        record_exception=False,
        set_status_on_exception=False,
    )
    return traced


def _w3c() -> Any:
    # OpenTelemetry is an extra of its own; what is kept is in one spelling, whatever is spoken.
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()


def _wanted() -> frozenset[str]:
    """Return the exporters that the environment asks for."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return frozenset()
    named = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if not named:
        has_endpoint = any(os.environ.get(name, "").strip() for name in _ENDPOINTS)
        named = "otlp" if has_endpoint else "none"
    exporters = {name.strip() for name in named.split(",")} - {"", "none"}
    unknown = sorted(exporters - _EXPORTERS)
    if unknown:
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER={named!r} names {unknown[0]!r}, which is none that there is "
            "here; write otlp, console, both, or none.",
            setting="OTEL_TRACES_EXPORTER",
        )
    if "otlp" in exporters:
        _check_protocol()
    return frozenset(exporters)


def _check_protocol() -> None:
    for setting in _PROTOCOLS:
        value = os.environ.get(setting, "").strip()
        if value and value != _SPOKEN:
            raise ConfigurationError(
                f"{setting}={value!r} is not spoken here; write {_SPOKEN}, and name the "
                "collector's port for HTTP, as a rule 4318, in OTEL_EXPORTER_OTLP_ENDPOINT.",
                setting=setting,
            )
        if value:
            return


def _as_it_is(app: ASGIApp) -> ASGIApp:
    return app
