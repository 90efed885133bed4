"""`GET /v1/opscore/events` of a real process."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opscore_middleware.server.run import GRACE
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.reporters import Reporters
from tests.support.streams import Stream, watching
from tests.support.waiting import TIMEOUT, wait_until

KEY = "open-sesame"


@pytest.fixture(scope="module")
def opscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpsCoreProcess]:
    """Return a running Ops-Core that wants a key and says often that it lives."""
    directory = tmp_path_factory.mktemp("opscore")
    with running_opscore(directory, key=KEY, OPSCORE_WATCH_HEARTBEAT="0.2") as process:
        yield process


@pytest.fixture(scope="module")
def agents(opscore: OpsCoreProcess) -> Iterator[Reporters]:
    reporters = Reporters(opscore)
    yield reporters
    reporters.http.close()


def watch(opscore: OpsCoreProcess, **query: Any) -> Any:
    return watching(opscore.url, opscore.headers(), **query)


def test_a_transition_is_told_as_it_is_kept_with_the_name_of_its_agent(
    opscore: OpsCoreProcess, agents: Reporters
) -> None:
    agent_id = agents.register("writer", capabilities=["write"])
    with watch(opscore) as stream:
        agents.report(agent_id, "active", details={"note": "größer\n"})
        (event,) = stream.read_events(1)
    (kept,) = agents.history(agent_id)
    assert event == {**kept, "agentName": "writer"}
    (message,) = stream.messages
    assert (message.event, message.event_id) == ("transition", str(kept["eventId"]))
    assert stream.raw.startswith(b"retry: 1000\nid: ")


def test_the_answer_is_a_stream_that_nobody_keeps_or_holds_back(opscore: OpsCoreProcess) -> None:
    url = f"{opscore.url}/v1/opscore/events"
    with httpx.stream("GET", url, headers=opscore.headers()) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"


def test_watching_begins_now_or_after_an_event_or_at_the_first(
    opscore: OpsCoreProcess, agents: Reporters
) -> None:
    agent_id = agents.register()
    agents.report(agent_id, "active", "idle", "active")
    first, second, third = (event["eventId"] for event in agents.history(agent_id))
    with (
        watch(opscore, agentId=agent_id) as now,
        watch(opscore, agentId=agent_id, after=first) as later,
        watch(opscore, agentId=agent_id, after=0) as whole,
        watch(opscore, after=0) as everything,
    ):
        agents.report(agent_id, "idle", first=4)
        fourth = agents.history(agent_id)[-1]["eventId"]
        assert [event["eventId"] for event in now.read_events(1)] == [fourth]
        assert [e["eventId"] for e in later.read_events(3)] == [second, third, fourth]
        assert [e["eventId"] for e in whole.read_events(4)] == [first, second, third, fourth]
        everything.read(lambda: everything.last_id == str(fourth))
        ids = [event["eventId"] for event in everything.events]
        assert ids == sorted(set(ids))
        assert {first, second, third, fourth} <= set(ids)


def test_the_header_of_a_browser_that_comes_back_wins_over_the_address(
    opscore: OpsCoreProcess, agents: Reporters
) -> None:
    agent_id = agents.register()
    agents.report(agent_id, "active", "idle")
    first, second = (event["eventId"] for event in agents.history(agent_id))
    headers = {**opscore.headers(), "Last-Event-ID": str(first)}
    with watching(opscore.url, headers, agentId=agent_id, after=0) as stream:
        assert [event["eventId"] for event in stream.read_events(1)] == [second]


@pytest.mark.parametrize("is_live", [True, False])
def test_filters_let_through_what_was_asked_for(
    opscore: OpsCoreProcess, agents: Reporters, is_live: bool
) -> None:
    begin = int(httpx.get(**_state(opscore, agents)).json()["eventId"])
    one = agents.register(capabilities=["write"])
    name = f"named-{begin}-{is_live}"
    other = agents.register(name, capabilities=["read", f"rare-{name}"])
    queries: dict[str, tuple[dict[str, str], list[tuple[str, str]]]] = {
        "agent": ({"agentId": one}, [(one, "active"), (one, "error")]),
        "name": ({"name": name}, [(other, "active"), (other, "idle")]),
        "state": ({"state": "ERROR"}, [(one, "error")]),
        "capability": ({"capability": f"rare-{name}"}, [(other, "active"), (other, "idle")]),
        "both": ({"agentId": other, "state": "idle"}, [(other, "idle")]),
    }
    with ExitStack() as stack:

        def open_all() -> dict[str, Stream]:
            return {
                key: stack.enter_context(watch(opscore, after=begin, **query))
                for key, (query, _) in queries.items()
            }

        streams = open_all() if is_live else {}
        agents.report(one, "active", "error")
        agents.report(other, "active", "idle")
        last = str(agents.history(other)[-1]["eventId"])
        streams = streams or open_all()
        for key, (_, expected) in queries.items():
            # A heartbeat tells of what was not for this one, too.
            streams[key].read(lambda stream=streams[key]: stream.last_id == last)
            told = [(event["agentId"], event["state"]) for event in streams[key].events]
            assert told == expected, key


def _state(opscore: OpsCoreProcess, agents: Reporters) -> dict[str, Any]:
    url = f"{opscore.url}/v1/opscore/agent/{agents.register()}/state?wait=0"
    return {"url": url, "headers": opscore.headers()}


def test_silence_is_filled_with_heartbeats_that_carry_the_position(
    opscore: OpsCoreProcess, agents: Reporters
) -> None:
    quiet, loud = agents.register(), agents.register()
    with watch(opscore, agentId=quiet) as stream:
        agents.report(loud, "active")
        position = agents.history(loud)[-1]["eventId"]
        stream.read(lambda: stream.last_id == str(position))
        stream.read(lambda: stream.raw.count(b": \n") >= 3)
    assert stream.messages == []


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(1, 6000), max_size=25), seed=st.integers())
def test_whatever_is_cut_and_resumed_has_every_event_once_and_in_order(
    opscore: OpsCoreProcess, agents: Reporters, cuts: list[int], seed: int
) -> None:
    """Three write at once while one reads, is cut off anywhere, and comes back."""
    chance = random.Random(seed)
    agent_id = agents.register()
    begin = httpx.get(**_state(opscore, agents)).json()["eventId"]
    sizes = [[chance.randint(1, 9) for _ in range(8)] for _ in range(3)]

    def write(number: int) -> None:
        first = 1
        for size in sizes[number]:
            agents.report(agent_id, *["active"] * size, instance=f"i-{number}", first=first)
            first += size

    with ThreadPoolExecutor(3) as threads:
        writing = [threads.submit(write, number) for number in range(3)]
        told: list[int] = []
        position = str(begin)
        for cut in (*cuts, None):
            if cut is None:
                [writer.result() for writer in writing]
            headers = {**opscore.headers(), "Last-Event-ID": position}
            with watching(opscore.url, headers, agentId=agent_id) as stream:
                if cut is None:
                    stream.read_events(sum(map(sum, sizes)) - len(told))
                else:
                    stream.read(lambda cut=cut: len(stream.raw) >= cut or _is_idle(stream))
            told += [event["eventId"] for event in stream.events]
            position = stream.last_id or position
    assert told == [event["eventId"] for event in agents.history(agent_id)]


def _is_idle(stream: Stream) -> bool:
    return stream.raw.endswith(b"\n\n") and b": \n" in stream.raw


def test_a_stop_ends_every_stream_at_once_with_a_word(tmp_path: Path) -> None:
    with running_opscore(tmp_path) as opscore, ExitStack() as stack:
        agents = Reporters(opscore)
        stack.callback(agents.http.close)
        agent_id = agents.register()
        agents.report(agent_id, "idle")
        streams = [stack.enter_context(watching(opscore.url, after=0)) for _ in range(20)]
        for stream in streams:
            stream.read_events(1)
        question = stack.enter_context(socket.create_connection(_address(opscore), TIMEOUT))
        path = f"/v1/opscore/agent/{agent_id}/state?wait=30s"
        question.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for _ in range(3):  # what was sent before is read before
            agents.history(agent_id)
        began = time.monotonic()
        assert opscore.stop() == 0
        took = time.monotonic() - began
        for stream in streams:
            last = stream.read_to_end()
            assert last.event == "bye"
            assert last.event_id == str(stream.events[-1]["eventId"])
        assert b'"state":"idle"' in question.recv(65536)
        # Half a second on a machine at rest; to wait for readers would take all of the grace.
        assert took < GRACE / 2
    assert "Traceback" not in opscore.log()
    assert [event["event"] for event in opscore.events()][-1] == "stopped"


def test_a_stop_does_not_wait_for_those_who_do_not_read(tmp_path: Path) -> None:
    with running_opscore(tmp_path) as opscore, ExitStack() as stack:
        agents = Reporters(opscore)
        stack.callback(agents.http.close)
        agent_id = agents.register()
        for _ in range(5):
            frozen = stack.enter_context(socket.create_connection(_address(opscore), TIMEOUT))
            frozen.sendall(b"GET /v1/opscore/events HTTP/1.1\r\nHost: x\r\n\r\n")
            assert frozen.recv(12) == b"HTTP/1.1 200"
        for batch in range(15):  # more than what sockets hold by themselves
            details = {"text": "x" * 50_000}
            agents.report(agent_id, *["active"] * 20, first=20 * batch + 1, details=details)
        began = time.monotonic()
        assert opscore.stop() == 0
        assert time.monotonic() - began < GRACE / 2
    assert "Traceback" not in opscore.log()


def _address(opscore: OpsCoreProcess) -> tuple[str, int]:
    host, port = opscore.url.removeprefix("http://").split(":")
    return host, int(port)


def test_one_who_stops_reading_is_let_go_of_and_harms_nobody(tmp_path: Path) -> None:
    text = "x" * 50_000
    with running_opscore(tmp_path, OPSCORE_WATCH_BACKLOG_BYTES="100000") as opscore:
        agents = Reporters(opscore)
        agent_id = agents.register()
        with socket.socket() as slow, watching(opscore.url) as quick:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
            slow.settimeout(TIMEOUT)
            slow.connect(_address(opscore))
            slow.sendall(b"GET /v1/opscore/events HTTP/1.0\r\nHost: x\r\n\r\n")
            assert slow.recv(12) == b"HTTP/1.1 200"
            count = 0
            for _ in range(8):  # far more than what sockets hold by themselves
                agents.report(agent_id, *["active"] * 20, first=count + 1, details={"text": text})
                count += 20
                quick.read_events(count)
            whole = b""
            while piece := slow.recv(1 << 20):
                whole += piece
        end = whole.rpartition(b"event: lagging")[2]
        assert end, "the slow one was not told that it lags"
        position = int(end.split(b'"eventId":')[1].split(b"}")[0])
        ids = [event["eventId"] for event in agents.history(agent_id)]
        assert whole.count(b"event: transition") == ids.index(position) + 1 < count
        with watching(opscore.url, after=position) as resumed:
            rest = resumed.read_events(count - ids.index(position) - 1)
        assert [event["eventId"] for event in rest] == ids[ids.index(position) + 1 :]
        agents.http.close()
    assert "Traceback" not in opscore.log()


def test_readers_who_leave_are_forgotten(tmp_path: Path) -> None:
    with running_opscore(tmp_path) as opscore:
        agents = Reporters(opscore)
        agent_id = agents.register()
        before = _sockets(opscore)
        with ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(watching(opscore.url))
            assert _sockets(opscore) >= before + 10
        wait_until(lambda: _sockets(opscore) <= before, message="sockets to be closed")
        agents.report(agent_id, "idle")
        agents.http.close()
    assert "Traceback" not in opscore.log()


def _sockets(opscore: OpsCoreProcess) -> int:
    count = 0
    for file in Path(f"/proc/{opscore.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            count += str(file.readlink()).startswith("socket:")
    return count


def test_watching_needs_a_key(opscore: OpsCoreProcess) -> None:
    answer = httpx.get(f"{opscore.url}/v1/opscore/events", timeout=TIMEOUT)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("after=-1", {}),
        ("after=x", {}),
        ("after=9223372036854775808", {}),
        ("", {"Last-Event-ID": "x"}),
    ],
)
def test_a_place_that_cannot_be_is_refused(
    opscore: OpsCoreProcess, query: str, headers: dict[str, str]
) -> None:
    url = f"{opscore.url}/v1/opscore/events?{query}"
    answer = httpx.get(url, headers={**opscore.headers(), **headers}, timeout=TIMEOUT)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_an_id_from_another_database_is_answered_by_a_reset(
    opscore: OpsCoreProcess, agents: Reporters
) -> None:
    agents.report(agents.register(), "idle")
    with watch(opscore, after=10**12) as stream:
        stream.read_events(1)
    reset = stream.messages[0]
    assert reset.event == "reset"
    assert reset.data == f'{{"firstEventId":{stream.events[0]["eventId"]},"after":{10**12}}}'


def test_many_agents_reporting_at_once_are_all_told(
    opscore: OpsCoreProcess, agents: Reporters
) -> None:
    ids = [agents.register() for _ in range(8)]
    done = threading.Barrier(8)
    with watch(opscore) as stream, ThreadPoolExecutor(8) as threads:

        def work(agent_id: str) -> None:
            done.wait()
            for sequence in range(1, 11):
                agents.report(agent_id, "active", first=sequence)

        list(threads.map(work, ids))
        events = stream.read_events(80)
    assert {event["agentId"] for event in events} == set(ids)
    for agent_id in ids:
        own = [event["sequence"] for event in events if event["agentId"] == agent_id]
        assert own == list(range(1, 11))
