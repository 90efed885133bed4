"""What tasks came to: the JSON that was answered, in the report that ends the task."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
from pydantic_core import to_json

from opscore_middleware import OpsCoreMiddleware, StateChange, track
from opscore_middleware.agent.outbox import Instance, Outbox
from opscore_middleware.agent.results import DROPPED, LIMIT, RESULT, Results, TaskResult
from opscore_middleware.core.states import AgentState
from tests.agent.exchange import JSON, Exchange, doing, reported
from tests.agent.support import Received, ScriptedOpsCore, watched
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.anyio

TASK = {"opscore_task_id": "t-1.1", "opscore_session_id": "s-1", "task_name": "draw"}
SUMMARY = {"pages": 2, "title": "Ink, ünd \u0000 more", "scores": [0.5, None, True], "n": 2**70}


def carrying(task_id: str = "t-1.1") -> Exchange:
    body = json.dumps({"payload": {}, **TASK, "opscore_task_id": task_id}).encode()
    return Exchange(body, headers=JSON)


def answering(
    ops_core: ScriptedOpsCore,
    *chunks: bytes,
    status: int = 200,
    headers: Any = JSON,
    then: Callable[[], Any] | None = None,
    **settings: Any,
) -> OpsCoreMiddleware:
    """Return an agent that reads the body and answers with these chunks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        if then is not None:
            await then()

    return watched(app, ops_core, **settings)


async def end_of(agent: Any, ops_core: ScriptedOpsCore, state: str = "idle") -> dict[str, Any]:
    """Have the agent serve a task; return the details of the report that ends it."""
    await carrying().run(agent)
    details: dict[str, Any] = (await reported(ops_core, "active", state))[1]["details"]
    return details


@pytest.mark.parametrize("value", [SUMMARY, [1, 2], "text", 0, None, False, {}])
async def test_the_json_that_was_answered_is_the_result(
    value: object, ops_core: ScriptedOpsCore
) -> None:
    details = await end_of(answering(ops_core, json.dumps(value).encode()), ops_core)
    assert details == {**TASK, "opscore_task_state": "completed", RESULT: value}


@pytest.mark.parametrize("size", [1, 1000])
async def test_a_result_comes_whole_and_the_client_gets_its_bytes_as_they_were(
    size: int, ops_core: ScriptedOpsCore
) -> None:
    body = json.dumps(SUMMARY, indent=4).encode()
    agent = answering(ops_core, *(body[i : i + size] for i in range(0, len(body), size)))
    exchange = await carrying().run(agent)
    assert exchange.body == body
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"][RESULT] == SUMMARY


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"cut": ', JSON),
        (b'{"score": NaN}', JSON),
        (b"", JSON),
        (b'{"a": 1}', [(b"content-type", b"text/plain")]),
        (b'{"a": 1}', []),
        (b"\x1f\x8b\x08", [*JSON, (b"content-encoding", b"gzip")]),
        (b'data: {"a": 1}\n\n', [(b"content-type", b"text/event-stream")]),
    ],
    ids=["cut", "nan", "empty", "text", "untyped", "compressed", "events"],
)
async def test_what_is_no_json_is_no_result(
    body: bytes, headers: Any, ops_core: ScriptedOpsCore
) -> None:
    details = await end_of(answering(ops_core, body, headers=headers), ops_core)
    assert details == {**TASK, "opscore_task_state": "completed"}


async def test_what_is_just_64_kib_is_a_result(ops_core: ScriptedOpsCore) -> None:
    text = "x" * (LIMIT - 2)
    details = await end_of(answering(ops_core, json.dumps(text).encode()), ops_core)
    assert details[RESULT] == text


@pytest.mark.parametrize("announced", [True, False])
async def test_a_result_of_more_than_64_kib_is_told_as_dropped(
    announced: bool, ops_core: ScriptedOpsCore
) -> None:
    body = b'"' + b"x" * LIMIT + b'"'
    length = [(b"content-length", str(len(body)).encode())] if announced else []
    details = await end_of(answering(ops_core, body, headers=[*JSON, *length]), ops_core)
    assert details == {**TASK, "opscore_task_state": "completed", DROPPED: True}


async def test_an_acknowledgement_is_no_result(ops_core: ScriptedOpsCore) -> None:
    details = await end_of(answering(ops_core, b'{"job": 1}', status=202), ops_core)
    assert details == {}


async def test_what_is_answered_while_the_work_goes_on_is_no_result(
    ops_core: ScriptedOpsCore,
) -> None:
    answered = anyio.Event()
    began = anyio.Event()

    async def work() -> None:
        async with track("job"):
            began.set()
            await answered.wait()

    async with anyio.create_task_group() as tasks:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            tasks.start_soon(work)
            await began.wait()
            await send({"type": "http.response.start", "status": 200, "headers": list(JSON)})
            await send({"type": "http.response.body", "body": b'{"job": 1}'})

        agent = watched(app, ops_core)
        await carrying().run(agent)
        answered.set()
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == {**TASK, "opscore_task_state": "completed"}


async def test_a_request_without_a_task_reports_no_result(ops_core: ScriptedOpsCore) -> None:
    agent = answering(ops_core, b'{"a": 1}')
    await Exchange(b'{"payload": {}}', headers=JSON).run(agent)
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == {}


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "state"), [(404, "idle"), (422, "idle"), (500, "error")])
async def test_a_failed_task_says_with_which_status(
    status: int, state: str, ops_core: ScriptedOpsCore
) -> None:
    agent = answering(ops_core, b'{"detail": "no such page"}', status=status)
    details = await end_of(agent, ops_core, state)
    assert details["opscore_task_state"] == "failed"
    assert details["opscore_task_status"] == status
    assert RESULT not in details
    assert ("error" in details) == (state == "error")


async def test_a_task_that_failed_without_a_response_has_no_status(
    ops_core: ScriptedOpsCore,
) -> None:
    async def fails() -> None:
        raise ValueError("no ink")

    agent = doing(fails, ops_core)
    with pytest.raises(ValueError):
        await carrying().run(agent)
    details = (await reported(ops_core, "active", "error"))[1]["details"]
    assert details["opscore_task_state"] == "failed"
    assert details["error"]["message"] == "no ink"
    assert "opscore_task_status" not in details


async def test_a_failure_is_restated_without_the_end_of_its_task(
    ops_core: ScriptedOpsCore,
) -> None:
    agent = answering(ops_core, b"", status=500, error_hold=3600)
    await end_of(agent, ops_core, "error")
    agent._tracker.restate()
    details = (await reported(ops_core, "active", "error", "error"))[2]["details"]
    assert list(details) == ["error"]


# --- one end -------------------------------------------------------------------------------------


async def test_the_end_of_an_attempt_that_comes_again_is_told_once(
    ops_core: ScriptedOpsCore,
) -> None:
    agent = answering(ops_core, b'{"a": 1}')
    for task_id in ("t-1.1", "t-1.1", "t-1.2"):
        await carrying(task_id).run(agent)
    reports = await reported(ops_core, *("active", "idle") * 3)
    assert [r["details"].get("opscore_task_state") for r in reports[1::2]] == [
        "completed",
        None,
        "completed",
    ]
    assert [RESULT in r["details"] for r in reports[1::2]] == [True, False, True]


# --- what the integrator says --------------------------------------------------------------------


@pytest.mark.parametrize("by", ["argument", "environment"])
async def test_results_are_not_reported_where_that_is_not_wanted(
    by: str, ops_core: ScriptedOpsCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("OPSCORE_REPORT_RESULTS", "false")
    settings = {"report_results": False} if by == "argument" else {}
    details = await end_of(answering(ops_core, b'{"a": 1}', **settings), ops_core)
    assert details == {**TASK, "opscore_task_state": "completed"}


async def test_a_function_decides_what_of_a_result_is_told(ops_core: ScriptedOpsCore) -> None:
    agent = answering(
        ops_core, b'{"pages": 2, "name": "Jane Doe"}', report_results=lambda r: {"n": r["pages"]}
    )
    assert (await end_of(agent, ops_core))[RESULT] == {"n": 2}


@pytest.mark.parametrize(
    "report", [lambda r: None, lambda r: r["no"], lambda r: object(), lambda r: "x" * LIMIT]
)
async def test_what_a_function_withholds_or_fails_at_is_not_told(
    report: Callable[[Any], Any], ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    agent = answering(ops_core, b'{"name": "Jane Doe"}', report_results=report)
    assert await end_of(agent, ops_core) == {**TASK, "opscore_task_state": "completed"}
    assert "Jane Doe" not in log.text


async def test_a_function_that_fails_is_told_of_once(
    ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    def broken(result: Any) -> Any:
        raise SystemExit

    agent = answering(ops_core, b"{}", report_results=broken)
    for n in range(3):
        await carrying(f"t-1.{n}").run(agent)
    await reported(ops_core, *("active", "idle") * 3)
    told = [r for r in log.records if "withheld" in r.getMessage()]
    assert [r.levelno for r in told] == [logging.WARNING]


async def test_neither_redact_nor_on_transition_sees_a_result(ops_core: ScriptedOpsCore) -> None:
    changes: list[StateChange] = []
    seen: list[Any] = []
    agent = answering(
        ops_core,
        b'{"name": "Jane Doe"}',
        on_transition=changes.append,
        redact=lambda details: seen.append(details) or details,
    )
    assert RESULT in await end_of(agent, ops_core)
    await wait_until_async(lambda: len(changes) == 2)
    assert changes[1].details == {**TASK, "opscore_task_state": "completed"}
    assert seen == []


# --- while Ops-Core is away ----------------------------------------------------------------------


def away(_call: Received) -> httpx.Response:
    raise httpx.ConnectError("away")


async def test_results_are_bounded_in_bytes_and_the_earliest_go_first(
    ops_core: ScriptedOpsCore,
) -> None:
    ops_core.script = away
    body = to_json("x" * 60_000)
    agent = answering(ops_core, body)
    for n in range(40):
        await carrying(f"t-{n}").run(agent)
    ops_core.script = lambda call: None
    reports = await reported(ops_core, *("active", "idle") * 40)
    ends = [report["details"] for report in reports[1::2]]
    assert [end["opscore_task_state"] for end in ends] == ["completed"] * 40
    kept = [RESULT in end for end in ends]
    assert [end.get(DROPPED) for end in ends] == [None if k else True for k in kept]
    # Some were taken to be sent before the outage was known, and are no longer in the outbox.
    assert 17 <= kept.count(True) <= 40
    assert kept[-17:] == [True] * 17


def test_room_is_made_by_dropping_the_earliest_results() -> None:
    outbox, instance = Outbox(most_bytes=100), Instance("i", 0.0)
    held = [TaskResult(to_json("x" * 38)) for _ in range(5)]
    for sequence, result in enumerate(held):
        outbox.make_room(result)
        details = {"opscore_task_id": str(sequence), RESULT: result}
        outbox.put((instance, sequence, AgentState.IDLE, 0.0, details, 0, 0))
    assert [result.size for result in held] == [0, 0, 0, 40, 40]
    told = [Results().told(entry.details) for entry in outbox.take()]
    assert [sorted(details or {})[1] for details in told] == [DROPPED] * 3 + [RESULT] * 2


def test_what_has_no_result_is_told_as_it_is() -> None:
    details = {"opscore_task_id": "t-1"}
    assert Results().told(details) is details
    assert Results().told(None) is None
