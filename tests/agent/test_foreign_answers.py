"""Answers that are none of Ops-Core's: a proxy's while it starts, or another server's."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.agent.desk import AGENTKIT_URL, UNKNOWN_AGENT, Open, ours, refusing
from tests.agent.support import URL, Received, ScriptedOpsCore


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((404, {"detail": "Not Found"}), (404, None), (302, None), (200, {})),
        *((201, {"agentId": ""}), (201, {"agentId": "../fleet"}), (201, {"agentId": "\x00"})),
    ],
)
def test_another_s_answer_to_a_registration_is_an_outage_that_says_what_to_set(
    status: int, body: Any, desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    """As a proxy's is while Ops-Core starts behind it."""
    ops_core.script = refusing(status, body)
    courier = desk()
    courier.pass_time(300)
    [line] = ours(log)
    assert URL in line
    assert "OPSCORE_API_URL" in line
    assert 10 < len(ops_core.calls) < 200
    ops_core.script = lambda call: None
    courier.pass_time(11)
    assert ops_core.states == ["initializing", "idle"]
    assert len(ours(log)) == 1


@pytest.mark.parametrize("body", [{"detail": "Not Found"}, None])
def test_an_id_is_made_known_once_ops_core_answers_in_place_of_a_proxy(
    body: Any, desk: Open, ops_core: ScriptedOpsCore
) -> None:
    ops_core.script = refusing(404, body)
    courier = desk(agent_id="a")
    courier.pass_time(60)
    assert 10 < len(ops_core.calls) < 200
    known = False

    def fresh(call: Received) -> httpx.Response | None:
        nonlocal known
        known = known or call.path == "/v1/opscore/agents"
        return None if known else httpx.Response(404, json=UNKNOWN_AGENT)

    ops_core.script = fresh
    courier.pass_time(15)
    assert ops_core.states == ["initializing", "idle"]


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("body", [{"detail": "Not Found"}, None])
def test_a_proxy_before_agentkit_is_an_outage_that_says_what_to_set(
    status: int, body: Any, desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    """As a proxy's is while AgentKit starts behind it."""
    answer = httpx.Response(status, json=body)
    asked: list[httpx.Request] = []

    def behind_a_proxy(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer

    transport = httpx.MockTransport(behind_a_proxy)
    courier = desk(agentkit=lambda: transport, contact_endpoint="http://a/task")
    courier.pass_time(300)
    [line] = ours(log)
    assert AGENTKIT_URL in line
    assert "AGENTKIT_API_URL" in line
    assert 10 < len(asked) < 200
    answer = httpx.Response(201, json={"status": "success", "data": {"agentId": "a"}})
    courier.pass_time(11)
    assert ops_core.states == ["initializing", "idle"]


def test_what_agentkit_itself_refuses_is_tried_again_each_minute(
    desk: Open, log: pytest.LogCaptureFixture
) -> None:
    asked: list[httpx.Request] = []

    def refuses(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(422, json={"detail": "contactEndpoint is no address"})

    transport = httpx.MockTransport(refuses)
    desk(agentkit=lambda: transport, contact_endpoint="http://a/task").pass_time(300)
    assert len(asked) == 6
    [line] = ours(log)
    assert "contactEndpoint is no address" in line


def test_a_proxy_cannot_end_reporting(desk: Open, ops_core: ScriptedOpsCore) -> None:
    ops_core.script = lambda call: httpx.Response(410, html="<h1>Gone</h1>")
    courier = desk(agent_id="a")
    courier.pass_time(30)
    ops_core.script = lambda call: None
    courier.pass_time(11)
    assert ops_core.states == ["initializing", "idle"]
    ops_core.script = lambda call: httpx.Response(410, html="<h1>Gone</h1>")
    assert courier.courier.beat() is not None
    courier.work()
    ops_core.script = lambda call: None
    courier.pass_time(11)
    assert ops_core.states == ["initializing", "idle", "active", "idle"]


def test_reports_that_a_page_has_answered_are_told_again(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    """As one about maintenance is, or the one to log in at."""
    page = httpx.Response(200, html="<h1>Back soon</h1>")
    reached: list[str] = []

    def maintained(call: Received) -> httpx.Response:
        reached.append(call.path)
        return page

    ops_core.script = maintained
    courier = desk(agent_id="a")
    courier.pass_time(30)
    assert 2 < len(reached) < 100
    [line] = ours(log)
    assert URL in line
    assert "a page with status 200" in line
    ops_core.script = lambda call: None
    ops_core.reports.clear()
    courier.pass_time(11)
    assert ops_core.states == ["initializing", "idle"]


@pytest.mark.parametrize("status", [403, 406])
def test_a_firewall_that_objects_to_an_error_does_not_silence_the_agent(
    status: int, desk: Open, ops_core: ScriptedOpsCore
) -> None:
    def objects(call: Received) -> httpx.Response | None:
        if "DROP TABLE" in str(call.body):
            return httpx.Response(status, html="<h1>Request rejected</h1>")
        if call.path.endswith("/heartbeat"):
            return httpx.Response(200, json={"lastSequence": 9, "intervalSeconds": 10})
        return None

    ops_core.script = objects
    courier = desk(agent_id="a")
    courier.work()
    error = {"error": {"type": "SyntaxError", "message": "near DROP TABLE"}}
    courier.tracker.fail(courier.tracker.begin(), error)
    courier.work()
    courier.pass_time(1)
    assert ops_core.states == [
        *("initializing", "idle", "active", "idle"),
        *("active", "error", "active", "idle"),
    ]
