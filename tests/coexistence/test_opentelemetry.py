"""OpenTelemetry sees the app as it would without us, and nothing of our own calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from opscore_middleware import OpsCoreMiddleware
from tests.agent.test_process import Sink
from tests.support.waiting import wait_until

App = Any


class Telemetry:
    """What an app's author would look at."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self._spans))
        self._metrics = InMemoryMetricReader()
        self.metering = MeterProvider(metric_readers=[self._metrics])

    @property
    def spans(self) -> list[str]:
        """The spans that have ended, by name and outcome."""
        finished = self._spans.get_finished_spans()
        return [f"{span.name}: {span.status.status_code.name}" for span in finished]

    @property
    def trace_ids(self) -> set[str]:
        finished = self._spans.get_finished_spans()
        return {f"{span.context.trace_id:032x}" for span in finished if span.context}

    @property
    def outgoing(self) -> int:
        """How many HTTP calls the metrics count as the app's own."""
        data = self._metrics.get_metrics_data()
        if data is None:
            return 0
        return sum(
            getattr(point, "count", 1)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name.startswith("http.client")
            for point in metric.data.data_points
        )

    def close(self) -> None:
        self.tracing.shutdown()
        self.metering.shutdown()


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Instrument httpx for this test."""
    telemetry = Telemetry()
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracing, meter_provider=telemetry.metering)
    yield telemetry
    instrumentor.uninstrument()
    telemetry.close()


def agent() -> Starlette:
    async def work(_request: Request) -> Response:
        return PlainTextResponse("done")

    async def fail(_request: Request) -> Response:
        raise ValueError("no ink")

    return Starlette(
        routes=[Route("/job", work, methods=["POST"]), Route("/fail", fail, methods=["POST"])]
    )


def traced(app: App, telemetry: Telemetry) -> App:
    return OpenTelemetryMiddleware(
        app, tracer_provider=telemetry.tracing, meter_provider=telemetry.metering
    )


def use(app: App) -> None:
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/job").status_code == 200
        assert client.post("/fail").status_code == 500


ORDERS: dict[str, Callable[[App, Telemetry, str], App]] = {
    "inside": lambda app, telemetry, url: traced(
        OpsCoreMiddleware(app, api_url=url, agent_name="traced"), telemetry
    ),
    "around": lambda app, telemetry, url: OpsCoreMiddleware(
        traced(app, telemetry), api_url=url, agent_name="traced"
    ),
}


@pytest.mark.trap("42")
def test_no_span_and_no_metric_of_theirs_comes_from_our_calls(
    sink: Sink, telemetry: Telemetry
) -> None:
    use(OpsCoreMiddleware(agent(), api_url=sink.url, agent_name="traced"))
    wait_until(lambda: sink.states[-1:] == ["finished"])
    assert telemetry.spans == []
    assert telemetry.outgoing == 0
    httpx.post(sink.url, json={})  # the app's own calls are seen as ever
    assert telemetry.spans == ["POST: UNSET"]
    assert telemetry.outgoing == 1


@pytest.mark.parametrize("order", ORDERS)
def test_the_spans_of_requests_are_the_same_with_us_as_without(
    order: str, sink: Sink, telemetry: Telemetry
) -> None:
    use(traced(agent(), telemetry))
    without = telemetry.spans
    assert any("ERROR" in span for span in without)
    use(ORDERS[order](agent(), telemetry, sink.url))
    assert telemetry.spans == without * 2
    wait_until(lambda: sink.states[-1:] == ["finished"])
    assert telemetry.outgoing == 0


def test_an_error_names_the_trace_that_it_belongs_to(sink: Sink, telemetry: Telemetry) -> None:
    use(ORDERS["inside"](agent(), telemetry, sink.url))
    wait_until(lambda: "error" in sink.states)
    [error] = [report for report in sink.reports if report["state"] == "error"]
    assert error["details"]["error"]["trace_id"] in telemetry.trace_ids


def test_a_span_of_a_transition_hook_is_the_apps_own(sink: Sink, telemetry: Telemetry) -> None:
    """Our calls are hidden, not the thread that makes them."""
    called = []

    def call(change: Any) -> None:
        if change.state == "active":
            called.append(httpx.post(sink.url, json={}).status_code)

    use(OpsCoreMiddleware(agent(), api_url=sink.url, agent_name="traced", on_transition=call))
    wait_until(lambda: len(called) == 2)
    wait_until(lambda: telemetry.spans == ["POST: UNSET"] * 2)
