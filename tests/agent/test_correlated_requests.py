"""Requests that carry one of Ops-Core's tasks: what the reports say of it, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.requests import ClientDisconnect

from opscore_middleware import track
from tests.agent.exchange import JSON, Exchange, doing, reported
from tests.agent.support import ScriptedOpsCore, watched

pytestmark = pytest.mark.anyio

TASK = {"opscore_task_id": "t-1.1", "opscore_session_id": "s-1", "task_name": "draw"}
BODY = json.dumps({"senderId": "opscore_system_id", "payload": {"n": 1}, **TASK}).encode()
PLAIN = b'{"payload": {}}'


def carrying(*parts: bytes, **more: Any) -> Exchange:
    return Exchange(*(parts or (BODY,)), headers=(*JSON, *more.pop("headers", ())), **more)


def ended(how: str) -> dict[str, str]:
    return {**TASK, "opscore_task_state": how}


async def nothing() -> None:
    pass


async def fails() -> None:
    raise ValueError("no ink")


async def test_the_reports_of_a_task_name_it_and_its_end(ops_core: ScriptedOpsCore) -> None:
    agent = doing(nothing, ops_core)
    await carrying().run(agent)
    active, idle = await reported(ops_core, "active", "idle")
    assert active["details"] == TASK
    assert idle["details"] == ended("completed")


@pytest.mark.parametrize("size", [1, 7, 40])
async def test_a_task_is_found_however_the_body_is_cut(
    size: int, ops_core: ScriptedOpsCore
) -> None:
    agent = doing(nothing, ops_core)
    await carrying(*(BODY[i : i + size] for i in range(0, len(BODY), size))).run(agent)
    reports = await reported(ops_core, "active", "active", "idle")
    assert [r["details"] for r in reports] == [{}, TASK, ended("completed")]


async def test_a_task_may_come_in_headers(ops_core: ScriptedOpsCore) -> None:
    headers = [
        (b"x-opscore-task-id", b"t-1.1"),
        (b"x-opscore-session-id", b"s-1"),
        (b"x-opscore-task-name", b"draw"),
    ]
    agent = doing(nothing, ops_core)
    await carrying(PLAIN, headers=headers).run(agent)
    active, idle = await reported(ops_core, "active", "idle")
    assert (active["details"], idle["details"]) == (TASK, ended("completed"))


@pytest.mark.parametrize(
    ("status", "state", "end"),
    [
        (200, "idle", "completed"),
        (201, "idle", "completed"),
        (204, "idle", "completed"),
        (202, "idle", None),
        (302, "idle", "failed"),
        (404, "idle", "failed"),
        (429, "idle", "failed"),
        (500, "error", "failed"),
        (503, "error", "failed"),
    ],
)
async def test_the_status_says_how_the_task_ended(
    status: int, state: str, end: str | None, ops_core: ScriptedOpsCore
) -> None:
    agent = doing(nothing, ops_core, status=status)
    await carrying().run(agent)
    reports = await reported(ops_core, "active", state)
    assert reports[1]["details"].get("opscore_task_state") == end
    assert reports[1]["details"].get("opscore_task_id") == (end and "t-1.1")


@pytest.mark.parametrize(("status", "told"), [(429, 90), (503, 90), (404, None)])
async def test_an_agent_without_room_is_left_alone_for_as_long_as_it_asks(
    status: int, told: int | None, ops_core: ScriptedOpsCore
) -> None:
    async def full(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"retry-after", b"90")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    await carrying().run(watched(full, ops_core))
    _, end = await reported(ops_core, "active", "error" if status == 503 else "idle")
    assert end["details"].get("opscore_task_retry_after") == told


async def test_an_exception_fails_the_task(ops_core: ScriptedOpsCore) -> None:
    agent = doing(fails, ops_core)
    with pytest.raises(ValueError):
        await carrying().run(agent)
    reports = await reported(ops_core, "active", "error")
    assert ended("failed").items() <= reports[1]["details"].items()
    assert reports[1]["details"]["error"]["message"] == "no ink"


def answering_first(
    then: Callable[[], Awaitable[object]], ops_core: ScriptedOpsCore, status: int = 202
) -> Any:
    """Return an agent that answers before it works, as with a background task."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        await then()

    return watched(app, ops_core)


async def test_work_that_fails_after_a_202_fails_the_task(ops_core: ScriptedOpsCore) -> None:
    agent = answering_first(fails, ops_core)
    with pytest.raises(ValueError):
        await carrying().run(agent)
    reports = await reported(ops_core, "active", "error")
    assert reports[1]["details"]["opscore_task_state"] == "failed"


async def test_a_failure_before_the_body_is_read_names_the_task_of_the_headers(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no ink")

    agent = watched(app, ops_core)
    with pytest.raises(ValueError):
        await carrying(headers=[(b"x-opscore-task-id", b"t-1.1")]).run(agent)
    reports = await reported(ops_core, "active", "error")
    assert reports[0]["details"] == {"opscore_task_id": "t-1.1"}
    assert reports[1]["details"]["opscore_task_state"] == "failed"


async def test_a_cancelled_request_says_that_nobody_works_on_its_task_any_more(
    ops_core: ScriptedOpsCore,
) -> None:
    agent = doing(anyio.sleep_forever, ops_core)
    with anyio.move_on_after(0.05):
        await carrying().run(agent)
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == ended("interrupted")


async def test_a_task_whose_client_left_in_the_middle_is_told_to_be_interrupted(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.disconnect"

    agent = watched(app, ops_core)
    await carrying(leaves=True).run(agent)
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == ended("interrupted")


async def test_an_attempt_that_was_interrupted_may_come_again_and_be_completed(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/left":
            raise ClientDisconnect
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    agent = watched(app, ops_core)
    with pytest.raises(ClientDisconnect):
        await carrying(path="/left", leaves=True).run(agent)
    await reported(ops_core, "active", "idle")
    await carrying().run(agent)
    reports = await reported(ops_core, "active", "idle", "active", "idle")
    assert reports[1]["details"]["opscore_task_state"] == "interrupted"
    assert reports[3]["details"] == ended("completed")


async def test_an_app_that_goes_on_without_its_client_completes_the_task(
    ops_core: ScriptedOpsCore,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    agent = watched(app, ops_core)
    await carrying(leaves=True).run(agent)
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == ended("completed")


async def test_a_task_beside_other_work_is_told_while_the_agent_stays_active(
    ops_core: ScriptedOpsCore,
) -> None:
    async def beside() -> None:
        await carrying().run(agent)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/outer":
            await beside()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    agent = watched(app, ops_core)
    await Exchange(path="/outer").run(agent)
    reports = await reported(ops_core, "active", "active", "active", "idle")
    assert [r["details"] for r in reports] == [{}, TASK, ended("completed"), {}]


# --- tracked units end tasks ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["completed", "failed", None])
async def test_a_unit_that_outlives_its_request_ends_the_task(
    how: str | None, ops_core: ScriptedOpsCore
) -> None:
    opened = anyio.Event()
    scope = anyio.CancelScope()

    async def job() -> None:
        with scope:
            try:
                async with track("job"):
                    opened.set()
                    if how is None:
                        await anyio.sleep_forever()
                    await answered.wait()
                    if how == "failed":
                        raise ValueError("no ink")
            except ValueError:
                pass

    answered = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            tasks.start_soon(job)
            await opened.wait()

        agent = doing(work, ops_core, status=202)
        await carrying().run(agent)
        answered.set()
        if how is None:
            scope.cancel()
    reports = await reported(ops_core, "active", "error" if how == "failed" else "idle")
    assert reports[1]["details"].get("opscore_task_state") == how


async def test_the_end_of_a_task_is_told_once(ops_core: ScriptedOpsCore) -> None:
    """Work that goes on after the response has completed the task is no second end of it."""
    answered = anyio.Event()

    async def later() -> None:
        await answered.wait()
        async with track("what remains"):
            pass

    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            tasks.start_soon(later)

        agent = doing(work, ops_core)
        await carrying().run(agent)
        answered.set()
    reports = await reported(ops_core, "active", "idle", "active", "idle")
    assert [r["details"] for r in reports] == [TASK, ended("completed"), {}, {}]


async def test_work_that_begins_after_a_202_ends_the_task(ops_core: ScriptedOpsCore) -> None:
    answered = anyio.Event()

    async def later() -> None:
        await answered.wait()
        async with track("job"):
            pass

    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            tasks.start_soon(later)

        agent = doing(work, ops_core, status=202)
        await carrying().run(agent)
        answered.set()
    reports = await reported(ops_core, "active", "idle", "active", "idle")
    assert [r["details"] for r in reports] == [TASK, {}, TASK, ended("completed")]


@pytest.mark.parametrize("work", [nothing, fails], ids=["completes", "fails"])
async def test_a_task_is_told_while_the_agent_drains(work: Any, ops_core: ScriptedOpsCore) -> None:
    agent = doing(work, ops_core)
    agent._tracker.drain()
    try:
        await carrying().run(agent)
    except ValueError:
        pass
    reports = await reported(ops_core, "draining", "draining", "draining")
    how = "completed" if work is nothing else "failed"
    assert reports[1]["details"] == TASK
    assert ended(how).items() <= reports[2]["details"].items()


@pytest.mark.parametrize("kind", [(), ((b"content-type", b"text/plain"),)], ids=["none", "text"])
async def test_a_task_in_the_headers_is_found_whatever_the_body_is(
    kind: Any, ops_core: ScriptedOpsCore
) -> None:
    agent = doing(anyio.lowlevel.checkpoint, ops_core)
    await Exchange(b"x", headers=[(b"x-opscore-task-id", b"t.1"), *kind]).run(agent)
    [active, idle] = await reported(ops_core, "active", "idle")
    assert active["details"] == {"opscore_task_id": "t.1"}
    assert idle["details"]["opscore_task_state"] == "completed"
