"""The courier: in order, until it is there or refused for good, and quiet about it."""

from __future__ import annotations

import threading

import httpx
import pytest

from tests.agent.desk import UNKNOWN_AGENT, Desk, Open, ours, refusing
from tests.agent.support import KEY, URL, Received, ScriptedOpsCore


def test_an_agent_registers_by_name_and_reports_under_the_id_it_gets(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    courier = desk(capabilities=["sum"], agent_version="2")
    assert courier.deliver() is None
    assert ops_core.paths == ["/v1/opscore/agents", "/v1/opscore/agent/id-of-tested/states"]
    assert ops_core.calls[0].body["capabilities"] == ["sum"]
    assert ops_core.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert ops_core.states == ["initializing", "idle"]
    assert [r["sequence"] for r in ops_core.reports] == [1, 2]
    assert {r["instanceId"] for r in ops_core.reports} == {courier.tracker.instance.instance_id}


def test_an_agent_with_an_id_reports_without_registering(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    assert desk(agent_id="a 1").deliver() is None
    assert ops_core.paths == ["/v1/opscore/agent/a 1/states"]


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_a_batch_route_gets_single_reports_for_ten_minutes(
    desk: Open, ops_core: ScriptedOpsCore, status: int
) -> None:
    def only_singles(call: Received) -> httpx.Response | None:
        if call.path.endswith("/states"):
            return httpx.Response(status, json={"detail": "Not Found"})
        return None

    ops_core.script = only_singles
    courier = desk(agent_id="a")
    courier.work()
    assert courier.deliver() is None
    assert ops_core.states == ["initializing", "idle", "active", "idle"]
    assert ops_core.paths.count("/v1/opscore/agent/a/states") == 1
    courier.clock.advance(599)
    courier.work()
    courier.deliver()
    assert ops_core.paths.count("/v1/opscore/agent/a/states") == 1
    courier.clock.advance(2)
    courier.work()
    courier.deliver()
    assert ops_core.paths.count("/v1/opscore/agent/a/states") == 2


def test_reports_of_an_unknown_id_wait_in_order_and_quietly(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    ops_core.script = refusing(404, UNKNOWN_AGENT)
    courier = desk(agent_id="given")
    courier.pass_time(4)
    courier.work()
    assert "/v1/opscore/agents" not in ops_core.paths
    assert ours(log) == []
    ops_core.script = lambda call: None
    courier.pass_time(2.5)
    assert ops_core.states == ["initializing", "idle", "active", "idle"]


def test_an_id_that_stays_unknown_for_five_seconds_is_registered(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    known: list[str] = []

    def forgetful(call: Received) -> httpx.Response | None:
        if call.path == "/v1/opscore/agents":
            known.append(call.body["agentId"])
            return None
        return None if known else httpx.Response(404, json=UNKNOWN_AGENT)

    ops_core.script = forgetful
    courier = desk(agent_id="given")
    for life in (1, 2):  # the second after the database was lost
        courier.pass_time(8)
        assert known == ["given"], f"life {life}"
        known.clear()
        courier.work()
        before = len(ops_core.reports)
        courier.pass_time(8)
        assert known == ["given"], f"life {life}: not registered again"
        assert len(ops_core.reports) > before
        known.clear()
        courier.work()
    assert ours(log) == []


def test_a_registration_that_failed_for_a_moment_is_tried_again(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    attempts: list[str] = []

    def forgetful(call: Received) -> httpx.Response | None:
        if call.path == "/v1/opscore/agents":
            attempts.append(call.path)
            return httpx.Response(503) if len(attempts) < 3 else None
        return None if len(attempts) >= 3 else httpx.Response(404, json=UNKNOWN_AGENT)

    ops_core.script = forgetful
    courier = desk(agent_id="given")
    courier.pass_time(60)
    assert ops_core.states == ["initializing", "idle"]


def test_an_id_that_stays_unknown_is_told_of_once_after_a_minute(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    ops_core.script = refusing(404, UNKNOWN_AGENT)
    courier = desk(agent_id="given")
    courier.pass_time(59)
    assert not [line for line in ours(log) if "still does not know" in line]
    courier.pass_time(300)
    [line] = [line for line in ours(log) if "still does not know" in line]
    assert "'given'" in line
    assert "opscore agents list" in line
    assert len(ops_core.calls) < 1000


def test_a_fresh_database_gets_the_agent_and_its_state_again(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    courier = desk()
    courier.deliver()
    ops_core.script = lambda call: (
        httpx.Response(404, json=UNKNOWN_AGENT) if call.path.endswith("/heartbeat") else None
    )
    courier.clock.advance(11)
    courier.courier.beat()
    ops_core.script = lambda call: None
    courier.deliver()
    assert ops_core.states == ["initializing", "idle", "idle"]
    assert [r["sequence"] for r in ops_core.reports] == [1, 2, 3]


def test_a_server_that_forgets_between_two_calls_is_not_hammered(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    """Registration succeeds, the report right after it is refused, without end."""

    def amnesiac(call: Received) -> httpx.Response | None:
        return httpx.Response(404, json=UNKNOWN_AGENT) if call.reports else None

    ops_core.script = amnesiac
    courier = desk()
    courier.pass_time(60)
    assert len(ops_core.calls) < 200


def test_a_refused_key_is_told_once_and_tried_slowly(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    ops_core.script = refusing(401, {"detail": "unknown key", "code": "unauthorized"})
    courier = desk(agent_id="a")
    courier.pass_time(600)
    assert 8 <= len(ops_core.calls) <= 15
    [line] = ours(log)
    assert "OPSCORE_API_KEY" in line
    assert KEY not in log.text
    ops_core.script = lambda call: None
    courier.pass_time(80)
    assert ops_core.states == ["initializing", "idle"]


def test_a_key_that_is_refused_while_idle_is_told_once_and_tried_slowly(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    courier = desk(agent_id="a")
    courier.deliver()
    ops_core.calls.clear()
    ops_core.script = refusing(401, {"detail": "unknown key", "code": "unauthorized"})
    for _ in range(60):
        courier.courier.beat()
        courier.clock.advance(10)
    assert 1 <= len(ops_core.calls) <= 16
    [line] = ours(log)
    assert "OPSCORE_API_KEY" in line


def test_a_deregistered_agent_stops_reporting_with_one_line(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    ops_core.script = refusing(410, {"detail": "gone", "code": "agent_deregistered"})
    courier = desk(agent_id="a")
    assert courier.deliver() is None
    courier.work(500)
    assert courier.deliver() is None
    assert courier.courier.beat() is None
    assert len(ops_core.calls) == 1
    assert len(courier.outbox) == 0
    [line] = ours(log)
    assert "'a'" in line


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(desk: Open, ops_core: ScriptedOpsCore, status: int) -> None:
    ops_core.script = refusing(status, **{"Retry-After": "30"})
    courier = desk(agent_id="a")
    wait = courier.deliver()
    assert wait is not None
    assert 30 <= wait <= 30.2
    ops_core.script = lambda call: None
    courier.clock.advance(29)
    courier.deliver()
    assert ops_core.states == []
    courier.clock.advance(2)
    courier.deliver()
    assert ops_core.states == ["initializing", "idle"]


def test_an_urgent_delivery_does_not_wait(desk: Open, ops_core: ScriptedOpsCore) -> None:
    ops_core.script = refusing(503, **{"Retry-After": "300"})
    courier = desk(agent_id="a")
    courier.deliver()
    ops_core.script = lambda call: None
    assert courier.courier.deliver(urgent=True) is None
    assert ops_core.states == ["initializing", "idle"]


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("no route to 10.0.0.1"),
        httpx.ReadTimeout(""),
        OSError(24, "too many open files"),
        ValueError("odd"),
        RuntimeError("cannot send a request, as the client has been closed"),
        RecursionError(),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_an_outage_makes_two_lines_however_long_and_odd_it_is(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture, failure: Exception
) -> None:
    down = True

    def answer(call: Received) -> httpx.Response | None:
        if down:
            raise failure
        return None

    ops_core.script = answer
    courier = desk()
    for _ in range(360):
        courier.work(10)
        courier.pass_time(10)
    assert 300 < len(ops_core.calls) < 3000
    assert len(courier.outbox) <= courier.outbox.limit
    down = False
    courier.pass_time(20)
    beginning, end = ours(log)
    assert URL in beginning
    assert type(failure).__name__ in beginning
    told = sum(report.get("coalesced", 0) for report in ops_core.reports)
    assert told > 6000
    assert f"folded meanwhile: {told}." in end
    assert ops_core.states[:2] == ["initializing", "idle"]
    assert ops_core.reports[-1]["sequence"] == 2 + 2 * 3600
    sequences = [report["sequence"] for report in ops_core.reports]
    assert sequences == sorted(set(sequences))


def test_a_refused_registration_says_what_to_set(
    desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    ops_core.script = refusing(422, {"detail": "not so"})
    courier = desk()
    courier.pass_time(300)
    [line] = ours(log)
    assert "OPSCORE_AGENT_ID" in line
    assert "not so" in line
    assert len(ops_core.calls) <= 12


def test_nothing_but_a_heartbeat_is_sent_while_nothing_happens(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    courier = desk(agent_id="a")
    courier.deliver()
    ops_core.calls.clear()
    for _ in range(100):
        assert courier.deliver() is None
        due = courier.courier.beat()
        assert due is not None
        assert due > 0
        courier.clock.advance(1)
    assert set(ops_core.paths) == {"/v1/opscore/agent/a/heartbeat"}
    assert 10 <= len(ops_core.calls) <= 14


@pytest.mark.parametrize("status", [404, 405])
def test_heartbeats_go_on_where_somebody_else_answers_for_a_while(
    status: int, desk: Open, ops_core: ScriptedOpsCore
) -> None:
    """As a proxy does while Ops-Core is rolled out: none for long would make the agent lost."""
    courier = desk(agent_id="a")

    def beats(seconds: int) -> int:
        ops_core.calls.clear()
        for _ in range(seconds):
            courier.courier.beat()
            courier.clock.advance(1)
        return len(ops_core.calls)

    courier.deliver()
    answers = httpx.Response(200, json={"lastSequence": 2, "intervalSeconds": 10})
    ops_core.script = lambda call: answers
    assert beats(20) >= 2
    ops_core.script = refusing(status)
    assert beats(60) >= 6


def test_a_server_without_a_route_for_heartbeats_is_rarely_asked(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    courier = desk(agent_id="a")
    courier.deliver()
    ops_core.script = refusing(404)
    ops_core.calls.clear()
    for _ in range(599):
        courier.courier.beat()
        courier.clock.advance(1)
    assert len(ops_core.calls) == 1


def test_the_reporter_is_never_told_to_come_back_at_once_during_an_outage(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    """Zero would keep a processor busy for as long as Ops-Core is away."""
    ops_core.script = refusing(503)
    courier = desk(agent_id="a")
    for _ in range(100):
        courier.deliver()
        assert courier.courier.beat() != 0.0
        courier.clock.advance(1)


def test_a_heartbeat_does_not_mistake_what_is_on_its_way_for_lost(
    desk: Open, ops_core: ScriptedOpsCore
) -> None:
    def counting(call: Received) -> httpx.Response | None:
        if not call.path.endswith("/heartbeat"):
            return None
        last = max(report["sequence"] for report in ops_core.reports)
        return httpx.Response(
            200, json={"state": "idle", "lastSequence": last, "intervalSeconds": 10}
        )

    ops_core.script = counting
    courier = desk(agent_id="a")
    courier.deliver()
    unit = courier.tracker.begin()  # between the delivery and the heartbeat
    courier.clock.advance(20)
    courier.courier.beat()
    courier.deliver()
    courier.tracker.end(unit)
    courier.deliver()
    assert ops_core.states == ["initializing", "idle", "active", "idle"]


def test_a_slow_server_holds_up_no_request(ops_core: ScriptedOpsCore) -> None:
    answering = threading.Event()

    def slow(call: Received) -> httpx.Response | None:
        answering.wait(10)
        return None

    ops_core.script = slow
    desk = Desk(ops_core, agent_id="a")
    reporter = threading.Thread(target=desk.deliver)
    reporter.start()
    desk.work(100)  # would never end if it waited
    answering.set()
    reporter.join()
