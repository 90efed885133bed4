"""Whose turn it is to be given a task on SQLite: a claim knows, and need not look at everybody."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from opscore_middleware.core.runs.records import Advance
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores import sqlite_claims
from opscore_middleware.stores.sqlite import SqliteStore
from tests.stores.run_support import claimed, ends, given, idle, task
from tests.stores.support import NOW, add, said

pytestmark = pytest.mark.asyncio

MANY = 100


@pytest_asyncio.fixture
async def store() -> AsyncIterator[SqliteStore]:
    store = SqliteStore(":memory:")
    await store.open()
    yield store
    await store.close()


async def tasked(store: SqliteStore, number: int) -> str | None:
    """Start a task, and return the instance that a claim gives it to; it is over at once."""
    name = f"t{number}"
    await given(store, task(name), session_id=f"s{number}", agent_id="owner")
    (slot,) = (await claimed(store, limit=10, now=NOW + number)).values()
    await store.advance([Advance(ends(name), task_id=name)], now=NOW + number)
    return slot[1]


async def looked_at(store: SqliteStore) -> list[str]:
    """A list that grows with the instances whose availability the writer looks up."""
    told: list[str] = []

    def trace(statement: str) -> None:
        if "json_each" in statement and "deregistered_at" in statement:
            keys = statement.split("json_each('[")[1].split("]")[0]
            told.extend(keys.split(","))

    await store._open_writer().run(lambda connection: connection.set_trace_callback(trace))
    return told


async def test_many_idle_instances_take_turns_one_task_at_a_time(store: SqliteStore) -> None:
    names = [f"i{n}" for n in range(MANY)]
    await idle(store, "a", *names)
    first = [await tasked(store, n) for n in range(MANY)]
    assert sorted(filter(None, first)) == sorted(names)
    second = [await tasked(store, MANY + n) for n in range(MANY)]
    assert second == first


async def test_a_claim_for_one_task_does_not_look_at_everybody(store: SqliteStore) -> None:
    await idle(store, "a", *(f"i{n}" for n in range(MANY)))
    await tasked(store, 0)
    told = await looked_at(store)
    await tasked(store, 1)
    assert 0 < len(told) < MANY / 4


async def test_the_one_instance_that_is_free_is_found_behind_all_that_are_not(
    store: SqliteStore,
) -> None:
    await idle(store, "a", *(f"i{n}" for n in range(MANY)), state="active")
    await idle(store, "b", "free")
    assert await tasked(store, 0) == "free"
    assert await tasked(store, 1) == "free"


async def test_an_instance_that_turns_up_later_is_given_the_next_task(store: SqliteStore) -> None:
    await idle(store, "a", "i")
    assert await tasked(store, 0) == "i"
    await store.apply_reports([said(instance_id="late")])
    assert await tasked(store, 1) == "late"
    assert await tasked(store, 2) == "i"


async def test_an_agent_that_learns_something_is_given_tasks_for_it(store: SqliteStore) -> None:
    await idle(store, "a", "i")
    await idle(store, "b", "j", capabilities=("d",))
    assert await tasked(store, 0) == "i"
    await add(store, "b", capabilities=["c", "d"], contact_endpoint="http://agent/task")
    assert await tasked(store, 1) == "j"
    await add(store, "a", capabilities=["d"], contact_endpoint="http://agent/task")
    assert await tasked(store, 2) == "j"


async def test_an_agent_that_comes_back_is_given_tasks_again(store: SqliteStore) -> None:
    await idle(store, "a", "i")
    await store.deregister("a", now=NOW)
    await given(store, task(), agent_id="owner")
    assert await claimed(store) == {}
    await add(store, "a", capabilities=["c"], contact_endpoint="http://agent/task")
    assert await claimed(store) == {"t": ("a", "i")}


async def test_instances_that_have_finished_are_left_out_in_time(store: SqliteStore) -> None:
    gone = [f"i{n}" for n in range(MANY)]
    await idle(store, "a", *gone)
    await idle(store, "b", "stays")
    await tasked(store, 0)
    await store.apply_reports([said("finished", instance_id=name, at=1) for name in gone])
    for number in range(1, 40):
        assert await tasked(store, number) == "stays"
    told = await looked_at(store)
    assert await tasked(store, 40) == "stays"
    assert len(told) < 10


async def test_a_claim_that_was_undone_counts_for_nobody(store: SqliteStore) -> None:
    await idle(store, "a", "i", "j")
    assert await tasked(store, 0) == "i"
    await given(store, task("u"), session_id="u", agent_id="owner")
    writer = store._open_writer()

    def undo(connection: sqlite3.Connection) -> None:
        (given_out,) = sqlite_claims.claim(
            connection, runs=writer.runs, turns=writer.turns, limit=1, mark=None, now=NOW + 1
        )
        assert given_out.task.instance_id == "j"
        connection.execute("ROLLBACK")
        raise ZeroDivisionError

    with pytest.raises(StoreUnavailable):
        await writer.run(undo)
    assert await claimed(store, limit=1, now=NOW + 1) == {"u": ("a", "j")}
