"""Registering, reading and listing agents."""

from __future__ import annotations

import asyncio
from itertools import product

import pytest

from opscore_middleware.core.models import Order, Registration
from opscore_middleware.core.store import Registered, Store
from tests.stores.support import NOW, add, instances, said, told

pytestmark = pytest.mark.asyncio


async def register(store: Store, name: str, *, now: int = NOW, **fields: object) -> Registered:
    registration = Registration.model_validate({"agent_name": name, **fields})
    return await store.register(registration, new_id=f"new-{name}-{now}", now=now)


async def test_a_new_agent_gets_the_new_id_and_no_state(store: Store) -> None:
    agent, created = await register(
        store,
        "n",
        version="1",
        capabilities=["sum", "écho"],
        contact_endpoint="http://h/task",
        metadata={"k": [1, {"ü": None}]},
    )
    assert created
    assert agent == await store.get_agent(agent.agent_id)
    assert agent.agent_id == f"new-n-{NOW}"
    assert (agent.agent_name, agent.version, agent.capabilities) == ("n", "1", ("sum", "écho"))
    assert (agent.contact_endpoint, agent.metadata) == ("http://h/task", '{"k":[1,{"ü":null}]}')
    assert (agent.registered_at, agent.deregistered_at, agent.instances) == (NOW, None, ())


async def test_an_unknown_agent_is_none(store: Store) -> None:
    assert await store.get_agent("nobody") is None
    assert list(await store.history("nobody", order=Order.DESC, after=None, limit=9)) == []


async def test_registering_again_updates_and_keeps_state_and_history(store: Store) -> None:
    first, _ = await register(store, "n", version="1", capabilities=["a"], metadata={"k": 1})
    await store.apply_reports([said("active", agent_id=first.agent_id, sequence=1)])
    again, created = await register(store, "n", now=NOW + 9, version="2", capabilities=["b"])
    assert not created
    assert (again.agent_id, again.registered_at) == (first.agent_id, NOW)
    assert (again.version, again.capabilities, again.metadata) == ("2", ("b",), None)
    assert [i.state for i in again.instances] == ["active"]
    assert len(await told(store, first.agent_id)) == 1


async def test_an_id_wins_over_the_name(store: Store) -> None:
    await register(store, "n", agent_id="one")
    two, created = await register(store, "n", agent_id="two", now=NOW + 1)
    assert (two.agent_id, created) == ("two", True)
    renamed, created = await register(store, "m", agent_id="one", now=NOW + 2)
    assert (renamed.agent_id, renamed.agent_name, created) == ("one", "m", False)


async def test_of_several_under_one_name_the_last_registered_is_the_one(store: Store) -> None:
    await register(store, "n", agent_id="one")
    await register(store, "n", agent_id="two", now=NOW + 1)
    assert (await register(store, "n", now=NOW + 2)).agent.agent_id == "two"
    await register(store, "n", agent_id="one", now=NOW + 3)
    assert (await register(store, "n", now=NOW + 4)).agent.agent_id == "one"


async def test_of_several_registered_at_once_the_newest_is_the_one(store: Store) -> None:
    for agent_id in ("b", "c", "a"):
        await register(store, "n", agent_id=agent_id)
    assert (await register(store, "n")).agent.agent_id == "a"


async def test_concurrent_registrations_of_a_new_name_make_one_agent(store: Store) -> None:
    registered = await asyncio.gather(
        *(
            store.register(Registration(agent_name="n"), new_id=f"id-{n}", now=NOW)
            for n in range(40)
        )
    )
    assert len({r.agent.agent_id for r in registered}) == 1
    assert sum(r.created for r in registered) == 1


async def test_an_endpoint_given_without_an_instance_is_the_agent_s(store: Store) -> None:
    await register(store, "n", contact_endpoint="http://h/1")
    agent, _ = await register(store, "n", contact_endpoint="http://h/2")
    assert (agent.contact_endpoint, agent.instances) == ("http://h/2", ())
    kept, _ = await register(store, "n")
    assert kept.contact_endpoint == "http://h/2"


async def test_each_instance_keeps_its_own_endpoint(store: Store) -> None:
    for instance in ("i", "j"):
        agent, _ = await register(
            store, "n", instance_id=instance, contact_endpoint=f"http://{instance}/"
        )
    assert agent.contact_endpoint == "http://i/"
    assert {i.instance_id: i.contact_endpoint for i in agent.instances} == {
        "i": "http://i/",
        "j": "http://j/",
    }
    moved, _ = await register(store, "n", instance_id="j", contact_endpoint="http://k/")
    assert moved.contact_endpoint == "http://i/"
    assert [i.contact_endpoint for i in moved.instances] == ["http://i/", "http://k/"]
    await register(store, "n", instance_id="j")
    assert (await instances(store, agent.agent_id))["j"].contact_endpoint == "http://k/"


@pytest.mark.parametrize("sequence", [1, None])
async def test_the_first_report_fills_a_registered_instance(
    store: Store, sequence: int | None
) -> None:
    await add(store, instance_id="i", contact_endpoint="http://i/")
    waiting = (await instances(store))["i"]
    assert (waiting.state, waiting.sequence, waiting.last_seen_at) == ("UNKNOWN", None, NOW)
    await store.apply_reports([said("idle", at=-50, sequence=sequence)])
    filled = (await instances(store))["i"]
    assert (filled.state, filled.timestamp, filled.sequence) == ("idle", NOW - 50, sequence)
    assert (filled.contact_endpoint, filled.last_seen_at) == ("http://i/", NOW)


async def test_registering_an_instance_that_reports_leaves_its_state(store: Store) -> None:
    await add(store)
    await store.apply_reports([said("active", sequence=4)])
    await add(store, now=NOW + 9, instance_id="i", contact_endpoint="http://i/")
    instance = (await instances(store))["i"]
    assert (instance.state, instance.sequence, instance.timestamp) == ("active", 4, NOW)
    assert (instance.contact_endpoint, instance.last_seen_at) == ("http://i/", NOW + 9)


async def names(store: Store, **query: object) -> list[tuple[str, str]]:
    values = {"name": None, "capability": None, "after": None, "limit": 100, **query}
    agents = await store.list_agents(**values)  # type: ignore[arg-type]
    return [(agent.agent_name, agent.agent_id) for agent in agents]


async def test_agents_are_listed_by_name_and_id_from_where_the_last_page_ended(
    store: Store,
) -> None:
    expected = sorted((name, f"{name}{n}") for name in ("b", "a", "é", "Z") for n in (2, 1, 10))
    for name, agent_id in reversed(expected):
        await add(store, agent_id, agent_name=name)
    assert await names(store) == expected
    for start in range(len(expected)):
        page = await names(store, after=expected[start], limit=3)
        assert page == expected[start + 1 : start + 4]


async def test_listed_agents_bring_their_own_instances(store: Store) -> None:
    for agent_id in ("a", "b", "c"):
        await add(store, agent_id)
    await store.apply_reports(
        [said(agent_id="a", instance_id="2"), said(agent_id="c"), said(agent_id="a")]
    )
    listed = await store.list_agents(name=None, capability=None, after=None, limit=9)
    assert [[i.instance_id for i in agent.instances] for agent in listed] == [["2", "i"], [], ["i"]]
    assert list(listed) == [await store.get_agent(agent_id) for agent_id in ("a", "b", "c")]


async def test_agents_are_found_by_the_state_of_any_instance_that_shows(store: Store) -> None:
    for agent_id in ("a", "b", "c", "d"):
        await add(store, agent_id)
    await store.apply_reports(
        [
            said("active", agent_id="a"),
            said("idle", agent_id="a", instance_id="j"),
            said("IDLE", agent_id="b", instance_id=None),
            said("active", agent_id="c"),
        ]
    )
    assert await names(store, state="Idle") == [("a", "a"), ("b", "b")]
    assert await names(store, state="active", after=("a", "a")) == [("c", "c")]
    assert await names(store, state="error") == []
    await store.apply_reports([said("active", agent_id="b", instance_id=None, at=1)])
    assert await names(store, state="idle") == [("a", "a")]


async def test_agents_are_found_by_a_state_that_few_are_in_however_it_is_spelt(
    store: Store,
) -> None:
    for agent_id in ("a", "b", "c"):
        await add(store, agent_id)
        await store.apply_reports([said("Draining", agent_id=agent_id)])
    assert await names(store, state="draining") == [("a", "a"), ("b", "b"), ("c", "c")]
    await store.apply_reports([said("idle", at=1), said("error", agent_id="b", at=1)])
    assert await names(store, state="DRAINING") == [("c", "c")]
    assert await names(store, state="error") == [("b", "b")]
    assert await names(store, state="idle") == [("a", "a")]


async def test_agents_are_found_by_exact_name_and_any_capability(store: Store) -> None:
    await add(store, "a", capabilities=["sum", 'quo"te'])
    await add(store, "b", capabilities=["sum"])
    assert await names(store, capability="sum") == [("a", "a"), ("b", "b")]
    assert await names(store, capability='quo"te') == [("a", "a")]
    assert await names(store, capability="SUM") == []
    assert await names(store, name="b") == [("b", "b")]
    assert await names(store, name="b", capability='quo"te') == []
    assert await names(store, name="B") == []


@pytest.mark.parametrize("order", Order)
async def test_a_history_goes_on_where_the_last_page_ended(store: Store, order: Order) -> None:
    await add(store, "a")
    await add(store, "b")
    for n in range(1, 8):
        await store.apply_reports([said(agent_id="b", sequence=n), said(sequence=n)])
    expected = [t.event_id for t in await told(store)]
    if order is Order.DESC:
        expected.reverse()
    read: list[int] = []
    while page := await store.history("a", order=order, after=read[-1] if read else None, limit=3):
        read += [t.event_id for t in page]
    assert read == expected


async def test_pages_are_whole_whether_few_are_wanted_or_many(store: Store) -> None:
    agents = {
        f"{number:02}": (
            "error" if number % 15 == 5 else "active",
            ["often", "seldom"] if number % 12 == 5 else ["often"],
        )
        for number in range(60)
    }
    await asyncio.gather(*(add(store, a, capabilities=able) for a, (_, able) in agents.items()))
    await store.apply_reports([said(state, agent_id=a) for a, (state, _) in agents.items()])
    for state, capability in product(
        [None, "active", "error", "draining"], [None, "often", "seldom", "never"]
    ):
        found: list[tuple[str, str]] = []
        while page := await names(
            store, state=state, capability=capability, limit=7, after=found[-1] if found else None
        ):
            found += page
        assert found == [
            (agent_id, agent_id)
            for agent_id, (told, able) in agents.items()
            if state in (None, told) and capability in (None, *able)
        ]
