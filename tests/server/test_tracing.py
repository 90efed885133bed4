"""Traces of Ops-Core's own: off unless asked for, and a part of the traces of those who call."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.server import Settings, create_app
from opscore_middleware.server.allowed import Allowed, AllowedTransport
from opscore_middleware.server.dispatch.sending import Sender
from opscore_middleware.server.spans import Tracing
from opscore_middleware.server.tracing import inject, tracing
from tests.cli.test_extras import HIDE
from tests.server.conftest import NOW, register, report_of
from tests.server.test_process import failed_start
from tests.support.attempts import answering, attempt, endpoint, listening_agent
from tests.support.processes import clean_environment, running_opscore
from tests.support.waiting import wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CARRIED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}


class Spans:
    """What ended in this process."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def around(self, app: ASGIApp) -> ASGIApp:
        return Tracing(self.provider).wrap(app)

    @property
    def ended(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def the_last(self) -> ReadableSpan:
        return self.ended[-1]


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Answer in a thread, until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    spans.provider.shutdown()


@pytest.fixture
def traced(spans: Spans) -> Iterator[TestClient]:
    """A client of an Ops-Core that is traced."""
    app = create_app(Settings.resolve(database_url="sqlite:///:memory:"), clock=lambda: NOW)
    with TestClient(spans.around(app)) as client:
        yield client


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# --- requests ------------------------------------------------------------------------------------


def test_a_report_is_a_part_of_the_trace_that_it_carries(traced: TestClient, spans: Spans) -> None:
    agent_id = register(traced)
    path = f"/v1/opscore/agent/{agent_id}/state"
    assert traced.post(path, json=report_of(agent_id), headers=CARRIED).status_code == 202
    span = spans.the_last()
    assert span.name == "POST /v1/opscore/agent/{agentId}/state"
    assert span.kind is SpanKind.SERVER
    assert f"{span.get_span_context().trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT
    assert facts(span) == {
        "http.request.method": "POST",
        "url.path": path,
        "url.scheme": "http",
        "http.route": "/v1/opscore/agent/{agentId}/state",
        "http.response.status_code": 202,
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_request_that_carries_none_begins_a_trace(traced: TestClient, spans: Spans) -> None:
    agent_id = register(traced)
    traced.get(f"/v1/opscore/agents/{agent_id}?limit=secret")
    first, second = spans.ended
    assert [first.name, second.name] == [
        "POST /v1/opscore/agents",
        "GET /v1/opscore/agents/{agentId}",
    ]
    assert first.parent is second.parent is None
    assert first.get_span_context().trace_id != second.get_span_context().trace_id
    assert "secret" not in str(facts(second))


def test_what_is_not_there_has_no_route_and_is_no_failure(traced: TestClient, spans: Spans) -> None:
    traced.get("/nothing/at/all")
    span = spans.the_last()
    assert span.name == "GET"
    assert facts(span)["http.response.status_code"] == 404
    assert "http.route" not in facts(span)
    assert span.status.status_code is StatusCode.UNSET


def test_a_failure_tells_its_kind_and_none_of_its_words(spans: Spans) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("hidden")

    client = TestClient(spans.around(broken), raise_server_exceptions=False)
    client.get("/v1/opscore/agents")
    span = spans.the_last()
    assert facts(span)["error.type"] == "RuntimeError"
    assert span.status.status_code is StatusCode.ERROR
    assert "hidden" not in span.to_json()


def test_an_answer_of_500_is_a_failure(spans: Spans) -> None:
    client = TestClient(spans.around(PlainTextResponse("no", status_code=503)))
    client.get("/v1/opscore/agents")
    span = spans.the_last()
    assert facts(span)["error.type"] == "503"
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_probes_are_not_traced(traced: TestClient, spans: Spans, path: str) -> None:
    traced.get(path)
    assert spans.ended == []


# --- what goes on to others ----------------------------------------------------------------------


async def passed_on(request: Request) -> Response:
    headers = {"x-kept": "1"}
    inject(headers)
    return PlainTextResponse(str(headers.pop("traceparent", "")) + str(headers))


def passing(spans: Spans) -> TestClient:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (await passed_on(Request(scope)))(scope, receive, send)

    return TestClient(spans.around(app))


def test_what_is_asked_of_others_carries_the_trace_on(spans: Spans) -> None:
    carried = passing(spans).get("/", headers=CARRIED).text
    span = spans.the_last()
    context = span.get_span_context()
    assert carried == f"00-{TRACE}-{context.span_id:016x}-01{{'x-kept': '1'}}"


def test_who_wants_no_trace_kept_has_none_kept_and_the_wish_passed_on(spans: Spans) -> None:
    carried = passing(spans).get("/", headers=UNSAMPLED).text
    assert spans.ended == []
    assert carried.startswith(f"00-{TRACE}-")
    assert carried.split("{")[0].endswith("-00")


def test_outside_of_any_trace_nothing_is_added() -> None:
    headers = {"x-kept": "1"}
    inject(headers)
    assert headers == {"x-kept": "1"}


@pytest.mark.asyncio
async def test_an_attempt_carries_the_trace_to_its_agent(spans: Spans) -> None:
    async def take(route: Route) -> None:
        assert route is Route.DIRECT

    transport = AllowedTransport(Allowed.parse(""))
    sender = Sender(transport, agentkit=None, clock=lambda: NOW)
    async with listening_agent(answering("202 Accepted")) as agent:
        with spans.provider.get_tracer("test").start_as_current_span("outer") as outer:
            await sender.send(attempt(), endpoint(agent.url), (Route.DIRECT,), taken=take)
        await sender.send(attempt(), endpoint(agent.url), (Route.DIRECT,), taken=take)
    await sender.close()
    (traced, _), (untraced, _) = agent.requests
    assert traced["traceparent"].split("-")[1] == f"{outer.get_span_context().trace_id:032x}"
    assert "traceparent" not in untraced


class OneThatIsFullAtFirst:
    """An agent that has no room for the first attempt, and takes the next."""

    def __init__(self) -> None:
        self.traces: list[str | None] = []
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                agent.traces.append(self.headers["traceparent"])
                self.send_response(503 if len(agent.traces) == 1 else 202)
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/task"


@pytest.fixture
def full_at_first() -> Iterator[OneThatIsFullAtFirst]:
    agent = OneThatIsFullAtFirst()
    with serving(agent.server):
        yield agent


@contextmanager
def started_with(app: ASGIApp, url: str, headers: dict[str, str]) -> Iterator[TestClient]:
    """Have an idle agent at `url`, and start a workflow for it with these headers."""
    with TestClient(app) as client:
        agent_id = register(client, contactEndpoint=url)
        path = f"/v1/opscore/agent/{agent_id}"
        assert client.post(f"{path}/state", json=report_of(agent_id)).status_code == 202
        tasks = [{"taskId": "a", "name": "A"}]
        body = {"workflowDefinition": {"id": "w", "name": "W", "tasks": tasks}}
        answer = client.post(f"{path}/workflow", json=body, headers=headers)
        assert answer.status_code == 202
        yield client


def test_every_attempt_is_a_part_of_the_trace_that_its_workflow_was_started_in(
    spans: Spans, full_at_first: OneThatIsFullAtFirst
) -> None:
    app = create_app(Settings.resolve(database_url="sqlite:///:memory:"))
    with started_with(spans.around(app), full_at_first.url, CARRIED):
        wait_until(lambda: len(full_at_first.traces) == 2, message="a second attempt")
    for carried in full_at_first.traces:
        assert carried is not None
        assert carried.split("-")[1] == TRACE


def test_where_nothing_is_traced_an_attempt_carries_nothing(
    full_at_first: OneThatIsFullAtFirst,
) -> None:
    app = create_app(Settings.resolve(database_url="sqlite:///:memory:"))
    with started_with(app, full_at_first.url, CARRIED):
        wait_until(lambda: len(full_at_first.traces) == 2, message="a second attempt")
    assert full_at_first.traces == [None, None]


# --- when it is on -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
def test_it_is_off_unless_asked_for(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    app = PlainTextResponse()
    with tracing() as wrap:
        assert wrap(app) is app


def test_nothing_of_the_sdk_is_loaded_where_it_is_off() -> None:
    script = (
        "import sys\nfrom opscore_middleware.server import create_app, tracing\n"
        "with tracing.tracing(), tracing.span('x', {}): tracing.inject({})\n"
        "assert not [m for m in sys.modules if m.startswith('opentelemetry.sdk')]"
    )
    subprocess.run([sys.executable, "-c", script], env=clean_environment(), check=True, timeout=30)


def test_without_the_extra_the_install_line_is_all_there_is(tmp_path: Path) -> None:
    # Its API may well be there, for others' sake.
    hide = HIDE.replace('name.partition(".")[0] in {modules!r}', "name.startswith({modules!r})")
    done = subprocess.run(
        [sys.executable, "-c", hide.format(modules="opentelemetry.sdk"), "serve", "--port", "0"],
        cwd=tmp_path,
        env=clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        'opscore: Tracing needs the otel extra: pip install "opscore-middleware[otel]"\n'
    )


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "write otlp, console, both, or none"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "write http/protobuf",
        ),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    tmp_path: Path, env: dict[str, str], said: str
) -> None:
    done = failed_start(tmp_path, "--port", "0", **env)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


# --- a collector ---------------------------------------------------------------------------------


class Collector:
    """Takes what is sent to an OTLP collector over HTTP, on loopback."""

    def __init__(self) -> None:
        self.received: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                collector.received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        return {
            attribute.key: attribute.value.string_value
            for attribute in self.received[0].resource_spans[0].resource.attributes
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    with serving(collector.server):
        yield collector


def report_to(url: str) -> None:
    body = {"agentName": "summarizer"}
    agent_id = httpx.post(f"{url}/v1/opscore/agents", json=body).json()["agentId"]
    answer = httpx.post(
        f"{url}/v1/opscore/agent/{agent_id}/state", json=report_of(agent_id), headers=CARRIED
    )
    assert answer.status_code == 202


def test_a_collector_gets_what_a_server_answers_as_it_goes(
    tmp_path: Path, collector: Collector
) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with running_opscore(tmp_path, **env) as opscore:
        report_to(opscore.url)
        wait_until(lambda: len(collector.spans()) == 2, message="both spans to come")
    _, span = collector.spans()
    assert span.name == "POST /v1/opscore/agent/{agentId}/state"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert collector.resource()["service.name"] == "opscore"


def test_the_last_spans_come_as_the_server_ends(tmp_path: Path, collector: Collector) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "60000",
        "OTEL_SERVICE_NAME": "tracker",
    }
    with running_opscore(tmp_path, **env) as opscore:
        report_to(opscore.url)
        assert collector.received == []
    assert len(collector.spans()) == 2
    assert collector.resource()["service.name"] == "tracker"


def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with running_opscore(tmp_path, **env) as opscore:
        report_to(opscore.url)
        began = time.monotonic()
        assert opscore.stop() == 0
        assert time.monotonic() - began < 8
    assert "Traceback" not in opscore.log()
