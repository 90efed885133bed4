"""Both clients, watching a real Ops-Core."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from uuid import uuid4

import anyio
import httpx
import pytest

from opscore_middleware.client import AsyncOpsCoreClient, OpsCoreClient
from opscore_middleware.client.following import Following
from opscore_middleware.core.models import HistoryQuery, Order, Registration, StateReport
from opscore_middleware.core.watch import AgentEvent, WatchQuery
from opscore_middleware.errors import EventsGone, RemoteError, RemoteUnavailable
from opscore_middleware.protocol import sse
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import TIMEOUT, wait_until, wait_until_async

NOBODY = "http://127.0.0.1:1"  # a port that nothing listens on
STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}


@pytest.fixture
def client(opscore: OpsCoreProcess) -> Iterator[OpsCoreClient]:
    """Return a client of a running Ops-Core."""
    with OpsCoreClient(opscore.url, opscore.api_key) as client:
        yield client


def register(client: OpsCoreClient) -> str:
    """Make an agent known by a name of its own, and return its id."""
    return client.register_agent(Registration(agent_name=f"agent-{uuid4()}")).agent_id


def report(client: OpsCoreClient, agent_id: str, *states: str, first: int = 1) -> None:
    """Report states of an agent's only instance."""
    now = datetime.now(UTC)
    reports = [
        StateReport(
            agent_id=agent_id,
            timestamp=now,
            state=state,
            instance_id="i-1",
            sequence=first + position,
        )
        for position, state in enumerate(states)
    ]
    client.report_states(agent_id, reports)


def beginning(client: OpsCoreClient, agent_id: str) -> WatchQuery:
    """Return a query for all events of one agent."""
    return WatchQuery(agent_id=agent_id, after=0)


def test_events_are_gone_through_as_they_come(client: OpsCoreClient) -> None:
    agent_id = register(client)
    report(client, agent_id, "active", "idle")
    events = client.watch(beginning(client, agent_id))
    assert [event.state for event in islice(events, 2)] == ["active", "idle"]
    report(client, agent_id, "error", first=3)
    last = next(events)
    assert (last.state, last.sequence) == ("error", 3)
    assert last.agent_name == client.get_agent(agent_id).agent_name
    page = client.history(agent_id, HistoryQuery(order=Order.DESC, limit=1))
    assert last.model_dump(exclude={"agent_name"}) == page.items[0].model_dump()


@pytest.mark.anyio
async def test_events_are_gone_through_as_they_come_by_async_callers_too(
    client: OpsCoreClient, opscore: OpsCoreProcess
) -> None:
    agent_id = register(client)
    report(client, agent_id, "active", "idle")
    states: list[str] = []
    note = states.append
    async with (
        AsyncOpsCoreClient(opscore.url, opscore.api_key) as watching,
        anyio.create_task_group() as tasks,
    ):

        async def watch() -> None:
            async for event in watching.watch(beginning(client, agent_id)):
                note(event.state)

        tasks.start_soon(watch)
        await wait_until_async(lambda: states == ["active", "idle"])
        report(client, agent_id, "error", first=3)
        await wait_until_async(lambda: states == ["active", "idle", "error"])
        # Whoever watches in another task comes to an end with the client.
        with anyio.fail_after(TIMEOUT / 2):
            await watching.aclose()
    assert states == ["active", "idle", "error"]


def test_closing_the_client_ends_a_watch_in_another_thread(opscore: OpsCoreProcess) -> None:
    with ThreadPoolExecutor(1) as thread:
        client = OpsCoreClient(opscore.url, opscore.api_key)
        agent_id = register(client)
        report(client, agent_id, "idle")
        seen: list[AgentEvent] = []
        note = seen.append

        def watch() -> None:
            for event in client.watch(beginning(client, agent_id)):
                note(event)

        watching = thread.submit(watch)
        wait_until(lambda: seen)
        client.close()
        watching.result(TIMEOUT / 2)
    assert len(seen) == 1


def test_a_watch_goes_on_over_restarts_and_kills_without_gap_or_repeat(tmp_path: Path) -> None:
    with running_opscore(tmp_path) as opscore, OpsCoreClient(opscore.url) as client:
        agent_id = register(client)
        seen: list[AgentEvent] = []

        def watch() -> None:
            with OpsCoreClient(opscore.url) as watching:
                for event in watching.watch(WatchQuery(after=0)):
                    seen.append(event)
                    if event.state == "finished":
                        return

        watching = threading.Thread(target=watch)
        watching.start()
        report(client, agent_id, "idle", "active", "idle")
        wait_until(lambda: len(seen) == 3)
        opscore.restart()
        report(client, agent_id, "active", "idle", first=4)
        wait_until(lambda: len(seen) == 5)
        opscore.kill()
        opscore.restart()
        report(client, agent_id, "active", "finished", first=6)
        watching.join(TIMEOUT)
        assert not watching.is_alive()
        assert [event.sequence for event in seen] == list(range(1, 8))


def test_nobody_there_is_said_at_once() -> None:
    with (
        OpsCoreClient(NOBODY) as client,
        pytest.raises(RemoteUnavailable, match=re.escape(NOBODY)),
    ):
        next(client.watch())


@pytest.mark.anyio
async def test_nobody_there_is_said_to_async_callers_at_once() -> None:
    async with AsyncOpsCoreClient(NOBODY) as client:
        with pytest.raises(RemoteUnavailable, match=re.escape(NOBODY)):
            await anext(client.watch())


def test_a_key_that_is_refused_ends_the_watch(opscore: OpsCoreProcess) -> None:
    with OpsCoreClient(opscore.url, "wrong") as client, pytest.raises(RemoteError) as caught:
        next(client.watch())
    assert caught.value.remote_status == 401


def test_missed_events_are_not_passed_over(client: OpsCoreClient) -> None:
    report(client, register(client), "idle")
    with pytest.raises(EventsGone) as caught:
        next(client.watch(WatchQuery(after=10**12)))
    found = next(client.watch(WatchQuery(after=caught.value.first_event_id - 1)))
    assert found.event_id == caught.value.first_event_id
    assert str(10**12) in caught.value.message


def test_a_refusal_that_passes_is_waited_out() -> None:
    event = b'{"eventId":%d,"agentId":"a","agentName":"n","state":"idle","details":null,' % 7 + (
        b'"timestamp":"2026-01-31T12:00:00Z","receivedAt":"2026-01-31T12:00:00Z",'
        b'"instanceId":null,"sequence":null,"coalesced":0,"errors":0}'
    )
    asked: list[str] = []
    answers = [
        httpx.Response(200, headers=STREAM, content=b"retry: 1\nid: 6\n\n"),
        httpx.Response(200, html="<p>Back in a minute</p>"),
        httpx.Response(503, json={"detail": "away", "code": "store_unavailable"}),
        httpx.Response(
            200,
            headers=STREAM,
            content=sse.block(sse.TRANSITION, event_id=6, data=event.replace(b"7", b"6"))
            + sse.block(sse.TRANSITION, event_id=7, data=event),
        ),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.query.decode())
        return answers[len(asked) - 1]

    with OpsCoreClient(NOBODY, transport=httpx.MockTransport(answer)) as client:
        assert next(client.watch()).event_id == 7
    assert asked == ["", "after=6", "after=6", "after=6"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<p>Welcome</p>"),
        httpx.Response(204),
        httpx.Response(200, headers=STREAM, content=b"id: abc\n\n"),
        httpx.Response(200, headers=STREAM, content=b'event: transition\ndata: {"a":1}\n\n'),
        httpx.Response(200, headers=STREAM, content=b"event: reset\ndata: {}\n\n"),
        httpx.Response(200, headers=STREAM, content=b"event: reset\ndata: 7\n\n"),
    ],
)
def test_somebody_else_who_answers_a_watch_is_told_at_once(answer: httpx.Response) -> None:
    transport = httpx.MockTransport(lambda _: answer)
    with (
        OpsCoreClient(NOBODY, transport=transport) as client,
        pytest.raises(RemoteError, match="not Ops-Core's; check the address"),
    ):
        next(client.watch())


def test_attempts_are_spread_more_and_more_and_begin_anew_after_success() -> None:
    following = Following(WatchQuery())
    delays = [following.delay() for _ in range(40)]
    assert all(delay <= min(30.0, 2.0**number) for number, delay in enumerate(delays))
    assert len(set(delays)) > 30
    list(following.feed(b"retry: 10\nid: 1\n\n"))
    assert following.delay() <= 0.01


def test_a_state_is_waited_for(client: OpsCoreClient) -> None:
    agent_id = register(client)
    report(client, agent_id, "active")
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(client.wait_for_state, agent_id, "IDLE", timeout=TIMEOUT)
        report(client, agent_id, "error", first=2)
        report(client, agent_id, "idle", first=3)
        assert found.result().state == "idle"
    assert client.wait_for_state(agent_id, "idle", timeout=0).agent_id == agent_id


def test_a_state_that_does_not_come_is_told_with_the_one_that_is(client: OpsCoreClient) -> None:
    agent_id = register(client)
    report(client, agent_id, "active")
    with pytest.raises(TimeoutError, match=r"not 'idle' within 0\.2 s; it is 'active'"):
        client.wait_for_state(agent_id, "idle", timeout=0.2)


@pytest.mark.anyio
async def test_a_state_is_waited_for_by_async_callers_too(
    client: OpsCoreClient, opscore: OpsCoreProcess
) -> None:
    agent_id = register(client)
    async with AsyncOpsCoreClient(opscore.url, opscore.api_key) as waiting:
        report(client, agent_id, "active")
        assert (await waiting.wait_for_state(agent_id, "active", timeout=1)).state == "active"
        with pytest.raises(TimeoutError):
            await waiting.wait_for_state(agent_id, "idle", timeout=0.1)
