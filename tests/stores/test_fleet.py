"""The fleet at a glance is what one sees who looks at each agent."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.doubt import Census
from opscore_middleware.core.fleet import Fleet, Headcount, Unseen, fleet_from
from opscore_middleware.core.lifecycle import agent_from_record
from opscore_middleware.core.liveness import NEVER, Watermark, liveness
from opscore_middleware.core.models import Agent, Liveness
from opscore_middleware.core.records import AgentRecord, StoredHeartbeat
from opscore_middleware.core.states import AgentState
from opscore_middleware.core.store import Store
from tests.stores.support import NOW, add, said

pytestmark = pytest.mark.asyncio

MARKS = [
    NEVER,
    *(
        Watermark(NOW + since * SECOND, NOW + seen * SECOND)
        for since, seen in ((0, 60), (0, 200), (90, 100), (-500, 31))
    ),
]


def beat(agent_id: str, instance_id: str, at: int, interval: int) -> StoredHeartbeat:
    return StoredHeartbeat(agent_id, instance_id, NOW + at, None, interval, None, None)


async def populate(store: Store, agents: int = 120) -> None:
    """Make agents of every kind: without instances, with some of any state, lost ones and late."""
    chance = random.Random(7)
    states = ["initializing", "idle", "active", "error", "draining", "finished", "paused"]
    for number in range(agents):
        agent_id = f"agent-{number:03}"
        await add(store, agent_id)
        for instance in range(chance.choice([0, 1, 1, 2, 4])):
            name = f"i{instance}"
            at = chance.randrange(0, 100) * SECOND + chance.randrange(3)
            if chance.random() < 0.7:
                interval = chance.choice([1, 5, 10, 30]) * SECOND + chance.randrange(2)
                await store.heartbeat(beat(agent_id, name, at, interval))
            if chance.random() < 0.9:
                report = said(chance.choice(states), at=at, agent_id=agent_id, instance_id=name)
                await store.apply_reports([report])
        if chance.random() < 0.2:
            report = said(chance.choice(states), agent_id=agent_id, instance_id=None)
            await store.apply_reports([report])
        if chance.random() < 0.1:
            await store.deregister(agent_id, now=NOW)


async def everybody(store: Store) -> list[AgentRecord]:
    listed = await store.list_agents(name=None, capability=None, after=None, limit=1000)
    return list(listed)


def counted(agents: Iterable[Agent]) -> tuple[Counter[str], Counter[Liveness], int]:
    """Count agents by state, instances by liveness, and those that are lost, one by one."""
    agents = list(agents)
    instances = [i for agent in agents for i in agent.instances if i.state != AgentState.FINISHED]
    return (
        Counter(agent.state for agent in agents),
        Counter(instance.liveness for instance in instances),
        sum(agent.lost for agent in agents),
    )


def seen(headcount: Headcount) -> Fleet:
    return fleet_from(headcount, reports_per_second=0.0)


async def test_it_counts_what_one_sees_who_looks_at_each(store: Store) -> None:
    await populate(store)
    records = await everybody(store)
    for mark in MARKS:
        fleet = seen(await store.headcount(mark=mark))
        states, lives, lost = counted(agent_from_record(record, mark) for record in records)
        assert fleet.agents == len(records)
        assert Counter(fleet.states) == states
        assert Counter(fleet.liveness) == lives
        assert fleet.lost == lost
    assert lost > 0
    assert min(lives.values()) > 0


async def test_the_longest_silent_is_one_that_sends_heartbeats_and_has_not_finished(
    store: Store,
) -> None:
    await add(store)
    await add(store, "gone")
    await store.apply_reports([said(instance_id="no heartbeats", at=-(10**9))])
    assert (await store.headcount(mark=NEVER)).longest_silent is None
    await store.heartbeat(beat("a", "finished", 1, SECOND))
    await store.apply_reports([said("finished", instance_id="finished", at=1)])
    await store.heartbeat(beat("gone", "i", 2, SECOND))
    await store.deregister("gone", now=NOW)
    await store.heartbeat(beat("a", "silent", 3, SECOND))
    await store.heartbeat(beat("a", "later", 4, SECOND))
    found = (await store.headcount(mark=NEVER)).longest_silent
    assert found == Unseen("a", "a", "silent", NOW + 3)


async def test_an_empty_fleet_has_nobody_in_any_state(store: Store) -> None:
    fleet = seen(await store.headcount(mark=NEVER))
    assert (fleet.agents, fleet.longest_silent) == (0, None)
    assert fleet.states == dict.fromkeys(map(str, AgentState), 0)
    assert fleet.liveness == dict.fromkeys(Liveness, 0)


async def test_a_census_counts_who_fell_silent_since(store: Store) -> None:
    await populate(store)
    instances = [i for record in await everybody(store) for i in record.instances]
    for before, mark in itertools.product(MARKS, MARKS):
        watched = [
            i
            for i in instances
            if i.interval is not None
            and i.state != AgentState.FINISHED
            and liveness(i, before) is not Liveness.LOST
        ]
        silent = [i for i in watched if liveness(i, mark) is not Liveness.ALIVE]
        assert await store.census(before=before, mark=mark) == Census(
            fleet=len(watched),
            silent=len(silent),
            lost=sum(liveness(i, mark) is Liveness.LOST for i in silent),
            interval=max((i.interval or 0 for i in silent), default=0),
        )
