"""Agents that want to be taken out once they are lost for long, and those that do not."""

from __future__ import annotations

import random

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark, is_overdue
from opscore_middleware.core.records import ReportOutcome, StoredHeartbeat
from opscore_middleware.core.store import Store
from tests.stores.support import NOW, add, instances, said

pytestmark = pytest.mark.asyncio

HOUR = 3600


def listening(until: int, since: int = -10) -> Watermark:
    return Watermark(NOW + since * SECOND, NOW + until * SECOND)


async def beat(store: Store, agent_id: str, instance_id: str = "i", at: int = 0) -> ReportOutcome:
    beat = StoredHeartbeat(agent_id, instance_id, NOW + at * SECOND, None, 10 * SECOND, None, None)
    return (await store.heartbeat(beat)).outcome


async def taken_out(store: Store, until: int) -> list[str]:
    mark = listening(until)
    return sorted(await store.deregister_overdue(mark=mark, now=mark.seen_at))


async def test_an_agent_is_taken_out_once_it_was_lost_for_long_enough(store: Store) -> None:
    await add(store, "a", deregister_after=2 * HOUR)
    await beat(store, "a")
    lost = 30
    assert await taken_out(store, lost + 2 * HOUR) == []
    assert await taken_out(store, lost + 2 * HOUR + 1) == ["a"]
    assert await taken_out(store, lost + 3 * HOUR) == []
    assert await beat(store, "a") is ReportOutcome.DEREGISTERED
    await add(store, "a")
    assert await beat(store, "a") is ReportOutcome.ACCEPTED


async def test_who_did_not_ask_for_it_stays(store: Store) -> None:
    await add(store, "a")
    await beat(store, "a")
    assert await taken_out(store, 1000 * HOUR) == []


async def test_the_last_registration_says_whether(store: Store) -> None:
    await add(store, "a", deregister_after=HOUR)
    record = await store.get_agent("a")
    assert record is not None
    assert record.deregister_after == HOUR * SECOND
    await add(store, "a")
    await beat(store, "a")
    assert await taken_out(store, 1000 * HOUR) == []


@pytest.mark.parametrize("who", ["alive", "finished", "without heartbeats", "never seen"])
async def test_an_agent_that_is_not_lost_stays(store: Store, who: str) -> None:
    await add(store, "a", deregister_after=1)
    if who == "alive":
        await beat(store, "a", "lost")
        await beat(store, "a", "alive", at=HOUR)
    elif who == "finished":
        await beat(store, "a")
        await store.apply_reports([said("finished")])
    elif who == "without heartbeats":
        await store.apply_reports([said("idle")])
    assert await taken_out(store, HOUR) == []


async def test_a_finished_instance_does_not_keep_a_lost_one_in(store: Store) -> None:
    await add(store, "a", deregister_after=1)
    await beat(store, "a", "finished")
    await store.apply_reports([said("finished", instance_id="finished")])
    await beat(store, "a", "lost")
    assert await taken_out(store, HOUR) == ["a"]
    assert set(await instances(store)) == {"finished", "lost"}


async def test_it_is_done_as_the_rule_says(store: Store) -> None:
    chance = random.Random(3)
    for number in range(100):
        agent_id = f"agent-{number:03}"
        await add(store, agent_id, deregister_after=chance.choice([None, 1, 20, 50, 3600]))
        for instance in range(chance.choice([0, 1, 1, 2, 3])):
            name, at = f"i{instance}", chance.randrange(100)
            if chance.random() < 0.9:
                await beat(store, agent_id, name, at)
            if chance.random() < 0.3:
                state = chance.choice(["idle", "finished"])
                report = said(state, agent_id=agent_id, instance_id=name, at=at * SECOND)
                await store.apply_reports([report])
    for until in (60, 100, 150):
        records = await store.list_agents(name=None, capability=None, after=None, limit=1000)
        overdue = [r.agent_id for r in records if is_overdue(r, listening(until))]
        assert overdue
        assert await taken_out(store, until) == sorted(overdue)
