"""OpenTelemetry's GenAI spans as units of work."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode, Tracer

from opscore_middleware.agent import tracing
from tests.agent.desk import ours
from tests.agent.exchange import JSON, Exchange, doing, reported
from tests.agent.support import ScriptedOpsCore

pytestmark = pytest.mark.anyio

INVOKE = {"gen_ai.operation.name": "invoke_agent"}
TASK = {"opscore_task_id": "t-1.1"}
BODY = b'{"opscore_task_id": "t-1.1"}'


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracer]:
    """Return a tracer of what is the global provider during the test."""
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield provider.get_tracer("tests")
    provider.shutdown()


async def serve(
    ops_core: ScriptedOpsCore,
    work: Callable[[], Awaitable[object]],
    *states: str,
    status: int = 200,
    **settings: Any,
) -> list[dict[str, Any]]:
    agent = doing(work, ops_core, status=status, **{"spans": True, **settings})
    await Exchange(BODY, headers=JSON).run(agent)
    return await reported(ops_core, *states)


async def test_a_span_that_fails_within_a_200_is_a_failure(
    tracer: Tracer, ops_core: ScriptedOpsCore
) -> None:
    async def work() -> None:
        try:
            with tracer.start_as_current_span("painter", attributes=INVOKE):
                raise ValueError("no ink")
        except ValueError:
            pass

    reports = await serve(ops_core, work, "active", "error")
    error = dict(reports[1]["details"]["error"])
    assert len(error.pop("trace_id")) == 32
    assert error == {"type": "ValueError", "message": "no ink", "where": "painter"}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status(StatusCode.ERROR, "out of paper"), ("SpanError", "out of paper")),
        (Status(StatusCode.ERROR), ("SpanError", "no message given")),
    ],
)
async def test_a_span_says_itself_how_it_failed(
    status: Status, said: tuple[str, str], tracer: Tracer, ops_core: ScriptedOpsCore
) -> None:
    async def work() -> None:
        with tracer.start_as_current_span("painter", attributes=INVOKE) as span:
            span.set_status(status)

    reports = await serve(ops_core, work, "active", "error")
    error = reports[1]["details"]["error"]
    assert (error["type"], error["message"]) == said


async def test_a_span_adds_to_its_request_whose_response_ends_the_task(
    tracer: Tracer, ops_core: ScriptedOpsCore
) -> None:
    async def work() -> None:
        with tracer.start_as_current_span("painter", attributes=INVOKE):
            pass

    reports = await serve(ops_core, work, "active", "idle", status=404)
    end = {**TASK, "opscore_task_state": "failed", "opscore_task_status": 404}
    assert reports[1]["details"] == end


async def test_the_outermost_of_nested_spans_counts(
    tracer: Tracer, ops_core: ScriptedOpsCore
) -> None:
    async def work() -> None:
        boss = tracer.start_as_current_span("boss", attributes=INVOKE)
        with boss, tracer.start_as_current_span("a step"):
            try:
                with tracer.start_as_current_span("painter", attributes=INVOKE):
                    raise ValueError("no ink")
            except ValueError:
                pass

    await serve(ops_core, work, "active", "idle")


async def test_steps_of_work_and_other_spans_are_no_units(
    tracer: Tracer, ops_core: ScriptedOpsCore
) -> None:
    async def work() -> None:
        for attributes in ({}, {"gen_ai.operation.name": "chat"}):
            try:
                with tracer.start_as_current_span("step", attributes=attributes):
                    raise ValueError("no ink")
            except ValueError:
                pass

    await serve(ops_core, work, "active", "idle")


@pytest.mark.parametrize("how", ["completed", "failed", None])
async def test_a_span_that_outlives_its_request_ends_the_task(
    how: str | None, tracer: Tracer, ops_core: ScriptedOpsCore
) -> None:
    began, answered = anyio.Event(), anyio.Event()

    async def job() -> None:
        try:
            with tracer.start_as_current_span("painter", attributes=INVOKE):
                began.set()
                with anyio.move_on_after(10 if how else 0.01):
                    await answered.wait()
                if how is None:
                    cancel.cancel()
                    await anyio.lowlevel.checkpoint()
                if how == "failed":
                    raise ValueError("no ink")
        except ValueError:
            pass

    async with anyio.create_task_group() as tasks:
        cancel = tasks.cancel_scope

        async def work() -> None:
            tasks.start_soon(job)
            await began.wait()

        agent = doing(work, ops_core, status=202, spans=True)
        with anyio.CancelScope(shield=True):
            await Exchange(BODY, headers=JSON).run(agent)
            if how is not None:
                answered.set()
    reports = await reported(ops_core, "active", "error" if how == "failed" else "idle")
    assert reports[1]["details"].get("opscore_task_state") == how


async def test_an_agent_that_has_not_asked_for_it_is_left_alone(
    tracer: Tracer, ops_core: ScriptedOpsCore
) -> None:
    async def work() -> None:
        try:
            with tracer.start_as_current_span("painter", attributes=INVOKE):
                raise ValueError("no ink")
        except ValueError:
            pass

    tracing.watch_spans()  # as another agent of the process has had it done
    await serve(ops_core, work, "active", "idle", spans=False)


async def test_two_agents_watch_a_provider_once(tracer: Tracer, ops_core: ScriptedOpsCore) -> None:
    async def work() -> None:
        try:
            with tracer.start_as_current_span("painter", attributes=INVOKE):
                raise ValueError("no ink")
        except ValueError:
            pass

    tracing.watch_spans()
    await serve(ops_core, work, "active", "error")


async def test_without_a_provider_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    await serve(ops_core, anyio.lowlevel.checkpoint, "active", "idle")
    (told,) = ours(log, logging.WARNING)
    assert "set_tracer_provider" in told
