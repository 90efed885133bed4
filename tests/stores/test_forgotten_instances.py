"""Instances that are over for long show no more; what the agent is stays as it was."""

from __future__ import annotations

import random
import time

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.lifecycle import agent_from_record
from opscore_middleware.core.liveness import Watermark, liveness
from opscore_middleware.core.models import Liveness
from opscore_middleware.core.records import AgentRecord, StoredHeartbeat
from opscore_middleware.core.states import AgentState
from opscore_middleware.core.store import Store
from tests.stores.support import NOW, add, instances, said, told

pytestmark = pytest.mark.asyncio

DAY = 86400
HOUR = 3600


def listening(until: int) -> Watermark:
    return Watermark(NOW - 10 * SECOND, NOW + until * SECOND)


async def forget(store: Store, at: int, keep: int = DAY) -> int:
    mark = listening(at)
    before = mark.seen_at - keep * SECOND
    return await store.forget_instances(mark=mark, before=before, now=mark.seen_at)


async def beat(store: Store, instance_id: str, at: int = 0, agent_id: str = "a") -> None:
    moment = NOW + at * SECOND
    await store.heartbeat(
        StoredHeartbeat(agent_id, instance_id, moment, None, 10 * SECOND, None, None)
    )


async def report(store: Store, state: str, instance_id: str | None, at: int, **more: int) -> None:
    await store.apply_reports([said(state, instance_id=instance_id, at=at * SECOND, **more)])


async def test_finished_and_lost_ones_go_after_their_time(store: Store) -> None:
    await add(store)
    await report(store, "finished", "finished", 0)
    await report(store, "idle", "lost", 0)
    await beat(store, "lost")
    await report(store, "idle", "without heartbeats", 0)
    await report(store, "idle", "new", DAY)
    assert await forget(store, DAY) == 0
    assert await forget(store, DAY + 1) == 2
    assert set(await instances(store)) == {"without heartbeats", "new"}
    assert await forget(store, DAY + 2) == 0
    assert [t.instance_id for t in await told(store)] == [
        *("finished", "lost", "without heartbeats", "new"),
    ]


async def test_an_agent_keeps_the_one_that_it_was_heard_of_through_last(store: Store) -> None:
    await add(store)
    await report(store, "finished", "i1", 0)
    await report(store, "finished", "i2", 1)
    await report(store, "idle", None, 2)
    await beat(store, "never reported", 3)
    assert await forget(store, 10 * DAY) == 2
    assert set(await instances(store)) == {"i2", None}
    record = await store.get_agent("a")
    assert record is not None
    assert agent_from_record(record, listening(10 * DAY)).state == "finished"


async def test_who_is_heard_of_again_shows_again(store: Store) -> None:
    await add(store)
    await report(store, "idle", "asleep", 0, sequence=4)
    await beat(store, "asleep")
    await report(store, "idle", "other", HOUR)
    assert await forget(store, 2 * DAY) == 1
    await beat(store, "asleep", 2 * DAY + 1)
    assert set(await instances(store)) == {"asleep", "other"}
    assert (await instances(store))["asleep"].sequence == 4
    assert await forget(store, 4 * DAY) == 0  # nobody was heard of later


async def test_the_forgotten_are_counted_nowhere(store: Store) -> None:
    await add(store)
    await report(store, "idle", "lost", 0)
    await beat(store, "lost")
    await report(store, "idle", "other", HOUR)
    mark = listening(2 * DAY)
    assert (await store.headcount(mark=mark)).longest_silent is not None
    await forget(store, 2 * DAY)
    counted = await store.headcount(mark=mark)
    assert counted.longest_silent is None
    assert [[m.state for m in crew.members] for crew in counted.crews] == [["idle"]]
    assert (await store.census(before=listening(0), mark=mark)).fleet == 0


async def test_an_agent_that_was_started_again_and_again_holds_up_nobody(store: Store) -> None:
    await add(store)
    count = 12_000
    reports = [said("finished", instance_id=f"i{n:05}", sequence=1, at=n) for n in range(count)]
    for first in range(0, count, 1000):
        await store.apply_reports(reports[first : first + 1000])
    await report(store, "idle", "last", DAY)
    began = time.monotonic()
    assert await forget(store, 2 * DAY) == count
    assert time.monotonic() - began < 3.0
    assert set(await instances(store)) == {"last"}


async def test_no_agent_changes_its_state_by_it(store: Store) -> None:
    chance = random.Random(11)
    states = ["initializing", "idle", "active", "error", "draining", "finished"]
    for number in range(60):
        agent_id = f"agent-{number:02}"
        await add(store, agent_id)
        for instance in range(chance.choice([0, 1, 2, 4])):
            name, at = f"i{instance}", chance.randrange(3 * DAY)
            if chance.random() < 0.8:
                await beat(store, name, at, agent_id)
            if chance.random() < 0.8:
                state = said(chance.choice(states), agent_id=agent_id, instance_id=name)
                await store.apply_reports([state._replace(received_at=NOW + at * SECOND)])
        if chance.random() < 0.3:
            last = said(chance.choice(states), agent_id=agent_id, instance_id=None)
            received = NOW + chance.randrange(3 * DAY) * SECOND
            await store.apply_reports([last._replace(received_at=received)])
    mark = listening(3 * DAY)

    async def listed() -> list[AgentRecord]:
        return list(await store.list_agents(name=None, capability=None, after=None, limit=100))

    before = await listed()
    assert await forget(store, 3 * DAY) > 10
    after = await listed()
    for was, now in zip(before, after, strict=True):
        old, new = agent_from_record(was, mark), agent_from_record(now, mark)
        assert (old.state, old.lost, old.timestamp) == (new.state, new.lost, new.timestamp)
        for gone in set(was.instances) - set(now.instances):
            over = gone.state == AgentState.FINISHED or liveness(gone, mark) is Liveness.LOST
            assert over
            assert gone.last_seen_at < mark.seen_at - DAY * SECOND
