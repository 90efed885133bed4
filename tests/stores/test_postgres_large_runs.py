"""Large runs, of which a replica reads only what has changed: never anything but what is kept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from opscore_middleware.core.runs.records import Advance, Run, Step
from opscore_middleware.core.runs.tasks import TaskState
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores import open_store
from tests.stores.run_support import Everything, advanced, ends, given, idle, sets, started, task
from tests.stores.support import NOW
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.asyncio

MANY: Final = 100
TASKS: Final = [f"t{n:03}" for n in range(MANY)]


@pytest_asyncio.fixture
async def pair(postgres: str) -> AsyncIterator[list[Everything]]:
    """Two replicas on one database, and a run of many tasks."""
    stores: list[Any] = [open_store(postgres), open_store(postgres)]
    for store in stores:
        await store.open()
    await given(stores[0], *map(task, TASKS))
    yield stores
    for store in stores:
        await store.close()


def grows(task_id: str) -> Step:
    """The step that adds a task to the run."""

    def step(run: Run) -> Run:
        return run._replace(tasks={**run.tasks, task_id: task(task_id, created_at=NOW + 1)})

    return step


def sees(found: list[Run]) -> Step:
    """The step that changes nothing, and notes what it was handed."""

    def step(run: Run) -> Run:
        found.append(run)
        return run

    return step


async def assert_each_is_handed_what_is_kept(stores: list[Everything]) -> None:
    kept = await stores[0].get_run("s")
    assert kept is not None
    for store in stores:
        found: list[Run] = []
        await store.advance([Advance(sees(found), session_id="s")], now=NOW)
        assert found == [kept]
        assert list(found[0].tasks) == list(kept.tasks)


async def test_each_replica_sees_what_the_other_has_changed(pair: list[Everything]) -> None:
    choose = random.Random(7)
    for n in range(40):
        store = choose.choice(pair)
        step = choose.choice(
            [
                ends(choose.choice(TASKS)),
                sets(choose.choice(TASKS), progress=n / 40, progress_message="x" * n),
                sets(choose.choice(TASKS), state=TaskState.READY, result=f'"{n}"'),
                grows(f"new{n}"),
                lambda run: run._replace(result=f'"{n}"'),  # noqa: B023 - called at once
            ]
        )
        (run,) = await store.advance([Advance(step, session_id="s")], now=NOW)
        assert isinstance(run, Run)
        await assert_each_is_handed_what_is_kept(pair)


async def test_what_is_claimed_and_begun_meanwhile_is_seen(pair: list[Everything]) -> None:
    await idle(pair[0], "a", "i", "j", "k")
    await assert_each_is_handed_what_is_kept(pair)
    for store in pair:
        for claim in await store.claim(limit=1, mark=None, now=NOW):
            await assert_each_is_handed_what_is_kept(pair)
            await advanced(store, started(claim.task.task_id), task_id=claim.task.task_id)
            await assert_each_is_handed_what_is_kept(pair)


async def test_steps_of_both_at_once_lose_nothing(pair: list[Everything]) -> None:
    def counts(run: Run) -> Run:
        spent = run.tasks["t000"].spent + 1
        return sets("t000", spent=spent)(sets(f"t{spent % MANY:03}", error=str(spent))(run))

    async def act(store: Everything) -> None:
        for _ in range(30):
            await store.advance([Advance(counts, task_id="t000")], now=NOW)

    await asyncio.gather(*(act(store) for store in pair for _ in range(2)))
    run = await pair[0].get_run("s")
    assert run is not None
    assert run.tasks["t000"].spent == 120
    await assert_each_is_handed_what_is_kept(pair)


async def test_what_could_not_be_kept_is_not_seen(pair: list[Everything]) -> None:
    await assert_each_is_handed_what_is_kept(pair)
    (failed,) = await pair[0].advance(
        [Advance(sets("t001", progress_message="a\x00b"), session_id="s")], now=NOW
    )
    assert isinstance(failed, asyncpg.PostgresError)
    await assert_each_is_handed_what_is_kept(pair)


async def test_all_is_read_again_once_connections_were_lost(
    pair: list[Everything], postgres: str
) -> None:
    for _ in range(2):
        await assert_each_is_handed_what_is_kept(pair)
    connection = await asyncpg.connect(postgres)
    try:
        # As where a standby has taken over: another history, with the same numbers in it.
        await connection.execute("DELETE FROM opscore.tasks WHERE task_id = 't042'")
        await connection.execute(_CUT_OFF)
    finally:
        await connection.close()
    for store in pair:
        await wait_until_async(lambda store=store: _finds_out(store))
    await assert_each_is_handed_what_is_kept(pair)


async def _finds_out(store: Everything) -> bool:
    try:
        await store.advance([Advance(ends("t001"), session_id="s")], now=NOW)
    except StoreUnavailable:  # where the connection is cut off as it is taken up
        return False
    return True


_CUT_OFF: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'opscore' AND datname = current_database()"""
