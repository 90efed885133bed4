"""The integrator's own functions: heard in order, bounded, and unable to hurt the app."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from opscore_middleware import Failure, OpsCoreMiddleware, StateChange
from tests.agent.exchange import Exchange, doing, reported
from tests.agent.support import ScriptedOpsCore, watched
from tests.support.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.anyio


async def nothing() -> None:
    pass


async def fails() -> None:
    raise ValueError("no ink for jane@example.com")


def saying(body: bytes, ops_core: ScriptedOpsCore, **settings: Any) -> OpsCoreMiddleware:
    """Return an agent that answers 200 with a JSON body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return watched(app, ops_core, **settings)


# --- outcome -------------------------------------------------------------------------------------


def own_sign(value: object) -> Failure | None:
    if isinstance(value, dict) and value.get("ok") is False:
        return Failure("OutOfInk", str(value.get("why")))
    return None


async def test_an_own_sign_of_failure_is_told_with_its_own_words(
    ops_core: ScriptedOpsCore,
) -> None:
    agent = saying(b'{"ok": false, "why": "dry"}', ops_core, outcome=[own_sign])
    await Exchange().run(agent)
    error = (await reported(ops_core, "active", "error"))[1]["details"]["error"]
    assert (error["type"], error["message"]) == ("OutOfInk", "dry")


async def test_an_own_sign_that_raises_is_no_failure_of_the_agent(
    ops_core: ScriptedOpsCore, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(value: object) -> None:
        raise KeyError("why")

    agent = saying(b'{"ok": false}', ops_core, outcome=[broken])
    assert (await Exchange().run(agent)).status == 200
    await reported(ops_core, "active", "idle")
    assert caplog.text
    caplog.clear()


# --- redact --------------------------------------------------------------------------------------


async def failed_with(agent: OpsCoreMiddleware, ops_core: ScriptedOpsCore) -> Any:
    with pytest.raises(ValueError):
        await Exchange().run(agent)
    return (await reported(ops_core, "active", "error"))[1]["details"]


async def test_redact_decides_what_is_told(ops_core: ScriptedOpsCore) -> None:
    def redact(details: dict[str, Any]) -> dict[str, Any]:
        details["error"]["message"] = details["error"]["message"].replace("jane", "…")
        return details

    agent = doing(fails, ops_core, redact=redact)
    details = await failed_with(agent, ops_core)
    assert details["error"]["message"] == "no ink for …@example.com"


async def test_redact_may_tell_nothing(ops_core: ScriptedOpsCore) -> None:
    agent = doing(fails, ops_core, redact=lambda details: None)
    assert await failed_with(agent, ops_core) == {}


@pytest.mark.parametrize(
    "told", [{"at": object()}, {"text": "\ud800"}, 7], ids=["no JSON", "no text", "no mapping"]
)
async def test_what_cannot_be_sent_is_withheld_and_holds_up_nothing(
    told: Any, ops_core: ScriptedOpsCore
) -> None:
    agent = doing(fails, ops_core, redact=lambda details: told)
    details = await failed_with(agent, ops_core)
    assert details == {"error": {"type": "ValueError", "message": "<withheld: redact failed>"}}


async def test_a_redact_that_fails_quotes_nothing_of_what_it_was_to_hide(
    ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    def redact(details: dict[str, Any]) -> dict[str, Any]:
        return {"error": int(details["error"]["message"])}

    await failed_with(doing(fails, ops_core, redact=redact), ops_core)
    assert "raised ValueError" in log.text
    assert "jane" not in log.text


# --- on_transition -------------------------------------------------------------------------------


async def test_each_transition_is_heard_in_order_in_a_thread_of_ours(
    ops_core: ScriptedOpsCore,
) -> None:
    heard: list[StateChange] = []
    threads: set[str] = set()

    def listen(change: StateChange) -> None:
        heard.append(change)
        threads.add(threading.current_thread().name)

    agent = doing(nothing, ops_core, on_transition=listen)
    for _ in range(100):
        await Exchange().run(agent)
    await wait_until_async(lambda: len(heard) == 200)
    assert [change.state.value for change in heard] == ["active", "idle"] * 100
    assert [change.sequence for change in heard] == list(range(1, 201))
    assert len({change.instance_id for change in heard}) == 1
    assert abs((datetime.now(UTC) - heard[-1].at).total_seconds()) < 60
    assert threads == {"opscore-reporter"}


async def test_transitions_are_heard_without_an_ops_core() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no ink")

    agent = OpsCoreMiddleware(
        app, agent_name="alone", on_transition=lambda change: heard.append(change.state)
    )
    with pytest.raises(ValueError):
        await Exchange().run(agent)
    await wait_until_async(lambda: heard == ["active", "error"])


@pytest.mark.parametrize("error", [ValueError, SystemExit])
async def test_a_listener_that_raises_silences_nobody(
    error: type[BaseException], ops_core: ScriptedOpsCore, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(change: StateChange) -> None:
        raise error("broken")

    agent = doing(nothing, ops_core, on_transition=broken)
    await Exchange().run(agent)
    await Exchange().run(agent)
    await reported(ops_core, "active", "idle", "active", "idle")
    assert caplog.text.count("on_transition failed") == 4
    caplog.clear()


async def test_a_listener_changes_nothing_of_what_is_told(ops_core: ScriptedOpsCore) -> None:
    def meddle(change: StateChange) -> None:
        if change.details:
            change.details["error"]["message"] = object()

    agent = doing(fails, ops_core, on_transition=meddle)
    details = await failed_with(agent, ops_core)
    assert details["error"]["message"] == "no ink for jane@example.com"


async def test_a_listener_that_takes_its_time_delays_no_request(
    ops_core: ScriptedOpsCore,
) -> None:
    go_on = threading.Event()
    heard: list[int] = []

    def slow(change: StateChange) -> None:
        go_on.wait(10)
        heard.append(change.sequence)

    agent = doing(nothing, ops_core, on_transition=slow)
    for _ in range(50):
        assert (await Exchange().run(agent)).status == 200
    assert heard == []
    go_on.set()
    await wait_until_async(lambda: heard == list(range(1, 101)))


async def test_a_listener_that_never_returns_costs_no_memory_but_what_is_bounded(
    ops_core: ScriptedOpsCore,
) -> None:
    go_on, hanging = threading.Event(), threading.Event()
    heard: list[int] = []

    def hangs(change: StateChange) -> None:
        hanging.set()
        go_on.wait(10)
        heard.append(change.sequence)

    agent = doing(nothing, ops_core, on_transition=hangs)
    await Exchange().run(agent)
    wait_until(hanging.is_set)
    for _ in range(5_000):
        await Exchange().run(agent)
    go_on.set()
    await wait_until_async(lambda: heard[-1:] == [10_002])
    assert len(heard) <= 4096 + 2


# --- clock ---------------------------------------------------------------------------------------


async def test_the_own_clock_s_time_is_reported(ops_core: ScriptedOpsCore) -> None:
    agent = doing(nothing, ops_core, clock=lambda: 86_400.5)
    await Exchange().run(agent)
    for report in await reported(ops_core, "active", "idle"):
        assert report["timestamp"] == "1970-01-02T00:00:00.500000+00:00"
        assert report["startedAt"] == "1970-01-02T00:00:00.500000+00:00"


def raises() -> float:
    raise RuntimeError("stopped")


@pytest.mark.parametrize(
    "clock",
    [raises, lambda: float("nan"), lambda: 1e300, lambda: "noon", lambda: None],
    ids=["raises", "no number", "no year", "a text", "nothing"],
)
async def test_a_clock_that_tells_no_time_hurts_nobody_and_is_told_of_once(
    clock: Any, ops_core: ScriptedOpsCore, caplog: pytest.LogCaptureFixture
) -> None:
    before = datetime.now(UTC)
    await Exchange().run(doing(nothing, ops_core, clock=clock))
    for report in await reported(ops_core, "active", "idle"):
        assert before <= datetime.fromisoformat(report["timestamp"]) <= datetime.now(UTC)
    [line] = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "clock=" in line
    caplog.clear()
