"""A span for each request, by OpenTelemetry. Needs the `otel` extra.

Made by hand: OpenTelemetry's ASGI instrumentation makes spans of single messages as well, and of a
report four; reports do not come by FastAPI's own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from importlib.metadata import version
from typing import Final

from opentelemetry import context, propagate
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    set_span_in_context,
    set_tracer_provider,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opscore_middleware.server.gate import route_path
from opscore_middleware.server.ingest import target

__all__ = ["Traced", "Tracing"]

_NAME: Final = "opscore"
_SCOPE: Final = "opscore_middleware"
_PROBES: Final = frozenset({"/health", "/ready", "/metrics"})
_TRACED: Final = "fastapi.telemetry"
"""What FastAPI looks for in a scope: whoever finds it there makes no span of its own."""
_END_WITHIN: Final = 2.0
"""How long a collector may take the last spans, in seconds, once the server has ended."""


class Tracing:
    """Makes spans and hands them on.

    Args:
        provider: where they go; shut down with this.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(_SCOPE, version("opscore-middleware"))

    @classmethod
    def exporting(cls, exporters: Collection[str]) -> Tracing:
        """Hand them, and those that are made with OpenTelemetry's own API in this process, to an
        OTLP collector over HTTP, to standard output, or both.

        Where the collector is, what is sampled and how much is sent at once are read from
        OpenTelemetry's own environment variables.
        """
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        if "otlp" in exporters:
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        if "console" in exporters:
            provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
        set_tracer_provider(provider)
        return cls(provider)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the app with a span around each request."""
        return Traced(app, self._tracer)

    def close(self) -> None:
        """Hand on what there is, for two seconds at most: a collector may be away."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(_END_WITHIN)


class Traced:
    """An app with a span around each request, which goes on with the trace that the request
    carries. Probes and metrics are not traced.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer
        self._fields = {name.encode() for name in propagate.get_global_textmap().fields}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does."""
        scope.setdefault(_TRACED, None)
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        parent = self._parent(scope)
        method = scope["method"]
        span = self._tracer.start_span(
            method,
            context=parent,
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "url.path": scope["path"],
                "url.scheme": scope["scheme"],
            },
        )
        token = context.attach(set_span_in_context(span, parent))
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            _describe(span, scope, status)
            span.end()
            context.detach(token)

    def _parent(self, scope: Scope) -> Context:
        carried = {
            name.decode(): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in self._fields
        }
        # Of nothing but what it carries: whatever this task was made in is no part of it.
        return propagate.extract(carried, Context()) if carried else Context()


def _describe(span: Span, scope: Scope, status: int) -> None:
    if not span.is_recording():
        return
    route = _route(scope)
    if route is not None:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    if status:
        span.set_attribute("http.response.status_code", status)
    if status >= 500:
        _fail(span, str(status))


def _fail(span: Span, kind: str) -> None:
    # The kind alone: messages of errors may hold what nobody else is to see.
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _route(scope: Scope) -> str | None:
    """Return the pattern that the path was matched by; None where there is nothing at it."""
    told = target(scope["method"], route_path(scope))
    if told is not None:
        return f"/v1/opscore/agent/{{agentId}}/{told.noun}"
    path = getattr(scope.get("route"), "path", None)  # left there by FastAPI
    return path if isinstance(path, str) else None


def _resource() -> Resource:
    ours = Resource.create(
        {
            "service.name": _NAME,
            "service.version": version("opscore-middleware"),
            "process.pid": os.getpid(),
        }
    )
    # What the operator has set comes first.
    return ours.merge(OTELResourceDetector().detect())
