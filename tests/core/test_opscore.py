"""Every use case of tracking, on the store that keeps nothing."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from opscore_middleware.core.clock import SECOND, from_micros
from opscore_middleware.core.models import (
    AgentQuery,
    BatchAccepted,
    HistoryQuery,
    Order,
    Registration,
    StateReport,
)
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.records import ReportOutcome
from opscore_middleware.errors import (
    AgentIdMismatch,
    AgentNotFound,
    InvalidCursor,
    InvalidState,
)
from opscore_middleware.stores import open_store

pytestmark = pytest.mark.asyncio


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def opscore(clock: Clock) -> AsyncIterator[OpsCore]:
    store = open_store("sqlite:///:memory:")
    await store.open()
    yield OpsCore(store, clock=clock, extra_states=["paused"])
    await store.close()


async def known(opscore: OpsCore, name: str = "agent", **fields: Any) -> str:
    agent, _ = await opscore.register(Registration(agent_name=name, **fields))
    return agent.agent_id


def report(clock: Clock, agent_id: str, state: str, **fields: Any) -> StateReport:
    return StateReport(agent_id=agent_id, state=state, timestamp=from_micros(clock()), **fields)


async def test_the_same_name_gets_the_same_id_again(opscore: OpsCore, clock: Clock) -> None:
    first, created = await opscore.register(Registration(agent_name="n", version="1"))
    assert created
    assert first.state == "UNKNOWN"
    clock.move(60)
    again, created = await opscore.register(Registration(agent_name="n", version="2"))
    assert not created
    assert (again.agent_id, again.version) == (first.agent_id, "2")
    assert again.registered_at == first.registered_at == first.timestamp


async def test_a_report_becomes_the_agent_s_state(opscore: OpsCore, clock: Clock) -> None:
    agent_id = await known(opscore)
    clock.move(1)
    outcome = await opscore.report(agent_id, report(clock, agent_id, "ACTIVE", details={"k": [1]}))
    assert outcome is ReportOutcome.ACCEPTED
    shown = await opscore.agent_state(agent_id)
    assert (shown.state, shown.details) == ("active", {"k": [1]})
    assert shown.timestamp == from_micros(clock())
    assert (await opscore.agent(agent_id)).state == "active"


async def test_a_client_s_wrong_clock_does_not_hold_back_its_next_report(
    opscore: OpsCore, clock: Clock
) -> None:
    agent_id = await known(opscore)
    tomorrow = report(clock, agent_id, "active").model_copy(
        update={"timestamp": from_micros(clock() + 86_400 * SECOND)}
    )
    await opscore.report(agent_id, tomorrow)
    clock.move(1)
    await opscore.report(agent_id, report(clock, agent_id, "idle"))
    assert (await opscore.agent_state(agent_id)).state == "idle"


async def test_an_extra_state_is_stored_and_shown(opscore: OpsCore, clock: Clock) -> None:
    agent_id = await known(opscore)
    await opscore.report(agent_id, report(clock, agent_id, "Paused"))
    assert (await opscore.agent_state(agent_id)).state == "paused"


async def test_a_refused_report_leaves_nothing_behind(opscore: OpsCore, clock: Clock) -> None:
    agent_id = await known(opscore)
    with pytest.raises(InvalidState):
        await opscore.report(agent_id, report(clock, agent_id, "UNKNOWN"))
    with pytest.raises(AgentIdMismatch):
        await opscore.report(agent_id, report(clock, "other", "idle"))
    with pytest.raises(InvalidState):
        await opscore.report_batch(
            agent_id, [report(clock, agent_id, "idle"), report(clock, agent_id, "busy")]
        )
    assert (await opscore.history(agent_id)).items == []


async def test_a_batch_says_how_much_of_it_was_new(opscore: OpsCore, clock: Clock) -> None:
    agent_id = await known(opscore)
    batch = [
        report(clock, agent_id, state, instance_id="i", sequence=sequence)
        for sequence, state in ((1, "idle"), (2, "active"), (2, "active"), (3, "idle"))
    ]
    assert await opscore.report_batch(agent_id, batch) == BatchAccepted(accepted=3, duplicates=1)
    assert await opscore.report_batch(agent_id, batch) == BatchAccepted(accepted=0, duplicates=4)


async def test_nobody_knows_an_agent_that_never_registered(opscore: OpsCore, clock: Clock) -> None:
    stranger = report(clock, "nobody", "idle")
    for call in (
        opscore.report("nobody", stranger),
        opscore.report_batch("nobody", [stranger]),
        opscore.agent("nobody"),
        opscore.agent_state("nobody"),
        opscore.history("nobody"),
    ):
        with pytest.raises(AgentNotFound) as raised:
            await call
        assert raised.value.context == {"agent_id": "nobody"}
        assert "'nobody'" in raised.value.message


async def pages(opscore: OpsCore, **query: Any) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page = await opscore.agents(AgentQuery(cursor=cursor, **query))
        found.append([agent.agent_name for agent in page.items])
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_agents_are_listed_by_name_a_page_at_a_time(opscore: OpsCore) -> None:
    for name in ("delta", "alpha", "charlie", "bravo", "echo"):
        await known(opscore, name)
    assert await pages(opscore, limit=2) == [["alpha", "bravo"], ["charlie", "delta"], ["echo"]]
    assert await pages(opscore, limit=5) == [["alpha", "bravo", "charlie", "delta", "echo"]]


async def test_a_page_that_filters_by_state_is_full_while_there_are_agents(
    opscore: OpsCore, clock: Clock
) -> None:
    for number in range(10):
        agent_id = await known(opscore, f"a{number}")
        if number % 3 == 0:
            await opscore.report(agent_id, report(clock, agent_id, "active"))
    assert await pages(opscore, limit=2, state="ACTIVE") == [["a0", "a3"], ["a6", "a9"]]
    assert await pages(opscore, limit=3, state="active") == [["a0", "a3", "a6"], ["a9"]]
    assert await pages(opscore, limit=9, state="UNKNOWN") == [["a1", "a2", "a4", "a5", "a7", "a8"]]
    assert await pages(opscore, limit=9, state="error") == [[]]


async def test_agents_are_found_by_name_and_by_what_they_can_do(opscore: OpsCore) -> None:
    await known(opscore, "one", capabilities=["sum", "echo"])
    await known(opscore, "two", capabilities=["echo"])
    await known(opscore, "three")
    assert await pages(opscore, capability="echo") == [["one", "two"]]
    assert await pages(opscore, capability="ech") == [[]]
    assert await pages(opscore, name="two") == [["two"]]
    assert await pages(opscore, name="two", capability="sum") == [[]]


@pytest.mark.parametrize("order", Order)
async def test_the_history_is_read_in_both_directions_without_gap_or_repeat(
    opscore: OpsCore, clock: Clock, order: Order
) -> None:
    agent_id, other = await known(opscore, "a"), await known(opscore, "b")
    for sequence in range(1, 8):
        for who in (agent_id, other):
            await opscore.report(
                who, report(clock, who, "idle", instance_id="i", sequence=sequence)
            )
    sequences: list[int | None] = []
    cursor = None
    while True:
        query = HistoryQuery(order=order, limit=3, cursor=cursor)
        page = await opscore.history(agent_id, query)
        sequences += [transition.sequence for transition in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.items) == 3
    expected = list(range(1, 8))
    assert sequences == (expected if order is Order.ASC else expected[::-1])


def cursor(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


BAD = ["", "?", "é", "x" * 7, cursor(b"{}"), cursor(b"null"), cursor(b"\xff"), cursor(b"true")]


@pytest.mark.parametrize(
    "bad", [*BAD, cursor(b"[1]"), cursor(b'"1"'), cursor(b"-1"), cursor(b"9" * 30)]
)
async def test_a_history_cursor_that_was_never_handed_out_is_refused(
    opscore: OpsCore, bad: str
) -> None:
    agent_id = await known(opscore)
    with pytest.raises(InvalidCursor) as raised:
        await opscore.history(agent_id, HistoryQuery(cursor=bad))
    assert raised.value.context == {"cursor": bad}


@pytest.mark.parametrize("bad", [*BAD, cursor(b"7"), cursor(b'["a"]'), cursor(b'["a", 1]')])
async def test_an_agents_cursor_that_was_never_handed_out_is_refused(
    opscore: OpsCore, bad: str
) -> None:
    with pytest.raises(InvalidCursor) as raised:
        await opscore.agents(AgentQuery(cursor=bad))
    assert raised.value.context == {"cursor": bad}
