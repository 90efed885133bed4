"""How SQLite's writer gathers, commits and answers."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from opscore_middleware.core.models import Order
from opscore_middleware.core.records import ReportOutcome
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores.sqlite import SqliteStore
from opscore_middleware.stores.sqlite_writer import SqliteWriter
from tests.stores.support import NOW, add, instances, said, told
from tests.support.waiting import TIMEOUT, wait_until_async

pytestmark = pytest.mark.asyncio

ACCEPTED = ReportOutcome.ACCEPTED


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(str(tmp_path / "opscore.db"))
    await store.open()
    await add(store)
    yield store
    await store.close()


def writer_of(store: SqliteStore) -> SqliteWriter:
    assert store._writer is not None
    return store._writer


async def commits_of(store: SqliteStore) -> list[str]:
    """A list that grows with every transaction that the writer commits."""
    commits: list[str] = []

    def note(statement: str) -> None:
        if statement == "COMMIT":
            commits.append(statement)

    await writer_of(store).run(lambda connection: connection.set_trace_callback(note))
    commits.clear()
    return commits


@asynccontextmanager
async def held(store: SqliteStore) -> AsyncIterator[None]:
    """Keep the writer in a commit of its own, so that what is asked meanwhile shares the next."""
    holds, release = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        holds.set()
        assert release.wait(TIMEOUT)

    holding = asyncio.ensure_future(writer_of(store).run(hold))
    await wait_until_async(holds.is_set, message="the writer to be held")
    try:
        yield
    finally:
        release.set()
    await holding


async def asked(store: SqliteStore, callers: int) -> None:
    """Wait until so many callers are waiting behind the one that holds the writer."""
    await wait_until_async(
        lambda: writer_of(store)._callers.qsize() == callers, message=f"{callers} callers to wait"
    )


async def test_a_commit_is_on_disk_before_it_is_answered(store: SqliteStore) -> None:
    def pragmas(connection: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    full = 2
    assert await writer_of(store).run(pragmas) == ["wal", full, 1]


async def test_concurrent_callers_share_a_commit(store: SqliteStore) -> None:
    commits = await commits_of(store)
    async with held(store):
        callers = [
            asyncio.ensure_future(store.apply_reports([said(sequence=n)])) for n in range(1, 201)
        ]
        await asked(store, 200)
    assert await asyncio.gather(*callers) == [[ACCEPTED]] * 200
    assert len(commits) == 2
    assert len(await told(store)) == 200


async def test_callers_that_come_freely_need_far_fewer_commits_than_there_are(
    store: SqliteStore,
) -> None:
    commits = await commits_of(store)

    async def caller(instance: int) -> None:
        for sequence in range(1, 21):
            await store.apply_reports([said(instance_id=str(instance), sequence=sequence)])

    await asyncio.gather(*(caller(instance) for instance in range(50)))
    assert len(await told(store)) == 1000
    assert 20 <= len(commits) < 250


async def test_one_caller_after_the_other_each_gets_a_commit(store: SqliteStore) -> None:
    commits = await commits_of(store)
    for sequence in range(1, 6):
        await store.apply_reports([said(sequence=sequence)])
    assert len(commits) == 5


async def test_a_commit_wakes_the_loop_once_for_all_its_callers(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    woken: list[object] = []
    wake = loop.call_soon_threadsafe
    async with held(store):
        callers = [asyncio.ensure_future(store.apply_reports([said()])) for _ in range(30)]
        await asked(store, 30)
        monkeypatch.setattr(
            loop, "call_soon_threadsafe", lambda *args: (woken.append(args), wake(*args))
        )
    await asyncio.gather(*callers)
    assert len(woken) == 2


async def test_a_caller_that_is_cancelled_leaves_the_others_alone(store: SqliteStore) -> None:
    async with held(store):
        callers = [
            asyncio.ensure_future(store.apply_reports([said(sequence=n)])) for n in range(1, 4)
        ]
        await asked(store, 3)
        callers[1].cancel()
    first, second, third = await asyncio.gather(*callers, return_exceptions=True)
    assert (first, third) == ([ACCEPTED], [ACCEPTED])
    assert isinstance(second, asyncio.CancelledError)
    assert (await instances(store))["i"].sequence == 3


async def test_a_loop_that_is_gone_leaves_the_callers_of_others_alone(store: SqliteStore) -> None:
    async def ask_and_leave() -> None:
        asyncio.ensure_future(store.apply_reports([said(sequence=1)]))  # noqa: RUF006
        await asyncio.sleep(0)

    async with held(store):
        await asyncio.to_thread(asyncio.run, ask_and_leave())
        stays = asyncio.ensure_future(store.apply_reports([said(sequence=2)]))
        await asked(store, 2)
    assert await stays == [ACCEPTED]


async def test_callers_of_two_loops_are_both_answered(store: SqliteStore) -> None:
    elsewhere = asyncio.to_thread(asyncio.run, store.apply_reports([said(sequence=1)]))
    here = store.apply_reports([said(sequence=2)])
    assert await asyncio.gather(elsewhere, here) == [[ACCEPTED], [ACCEPTED]]


async def test_work_that_fails_is_undone_and_fails_alone(store: SqliteStore) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE agents SET version = 'wrong'")
        raise LookupError("on purpose")

    async with held(store):
        failing = asyncio.ensure_future(writer_of(store).run(fail))
        reporting = asyncio.ensure_future(store.apply_reports([said(sequence=1)]))
        await asked(store, 2)
    assert await reporting == [ACCEPTED]
    with pytest.raises(LookupError, match="on purpose"):
        await failing
    agent = await store.get_agent("a")
    assert agent is not None
    assert agent.version == ""


async def test_when_the_commit_itself_fails_nobody_is_told_that_it_was_written(
    store: SqliteStore,
) -> None:
    def poison(connection: sqlite3.Connection) -> None:
        # A deferred constraint is only looked at by the commit.
        connection.execute("PRAGMA defer_foreign_keys = ON")
        connection.execute("UPDATE events SET instance_key = 999")

    await store.apply_reports([said("active", sequence=1)])
    async with held(store):
        callers = [
            asyncio.ensure_future(writer_of(store).run(poison)),
            asyncio.ensure_future(store.apply_reports([said("idle", sequence=2)])),
            asyncio.ensure_future(store.apply_reports([said(agent_id="b")])),
        ]
        await asked(store, 3)
    for failure in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(failure, StoreUnavailable)
        assert isinstance(failure.__cause__, sqlite3.IntegrityError)
    assert (await instances(store))["i"].state == "active"
    assert await store.apply_reports([said("idle", sequence=2)]) == [ACCEPTED]
    assert [t.sequence for t in await told(store)] == [1, 2]


async def limit_pages(store: SqliteStore, spare: int) -> None:
    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + spare}")

    await writer_of(store).run(limit)


async def test_a_full_disk_is_said_and_leaves_nothing_half_written(store: SqliteStore) -> None:
    await store.apply_reports([said("idle", sequence=1)])
    await limit_pages(store, spare=4)
    large = '{"text":"' + "x" * 3000 + '"}'
    async with held(store):
        callers = [
            asyncio.ensure_future(
                store.apply_reports(
                    [said("active", sequence=n, details=large), said("idle", sequence=n + 1)]
                )
            )
            for n in range(2, 40, 2)
        ]
        await asked(store, len(callers))
    for failure in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(failure, StoreUnavailable)
        assert "free space on its disk" in failure.message
        assert str(store._file.path) in failure.message
    instance = (await instances(store))["i"]
    assert (instance.state, instance.sequence) == ("idle", 1)
    assert [t.sequence for t in await told(store)] == [1]

    await limit_pages(store, spare=1000)
    assert await store.apply_reports([said("active", sequence=2, details=large)]) == [ACCEPTED]
    assert (await instances(store))["i"].state == "active"


async def test_reads_go_on_while_a_write_takes_its_time(store: SqliteStore) -> None:
    await store.apply_reports([said("active", sequence=1)])
    async with held(store):
        assert (await instances(store))["i"].state == "active"
        assert len(await told(store)) == 1


async def test_many_reads_at_once_are_all_answered(store: SqliteStore) -> None:
    await store.apply_reports([said(sequence=n) for n in range(1, 51)])
    reads = [store.history("a", order=Order.ASC, after=None, limit=n) for n in range(1, 51)]
    assert [len(page) for page in await asyncio.gather(*reads)] == list(range(1, 51))


async def test_a_read_sees_what_was_answered_before(store: SqliteStore) -> None:
    for sequence in range(1, 51):
        await store.apply_reports([said(at=sequence, sequence=sequence)])
        assert (await instances(store))["i"].sequence == sequence


async def test_a_deregistered_agent_is_told_apart_and_comes_back_by_registering(
    store: SqliteStore,
) -> None:
    await add(store, "b")
    await store.apply_reports([said("idle", sequence=1)])
    await writer_of(store).run(
        lambda c: c.execute("UPDATE agents SET deregistered_at = 1 WHERE agent_id = 'a'") and None
    )
    gone = ReportOutcome.DEREGISTERED
    assert await store.apply_reports([said("active", sequence=2)]) == [gone]
    mixed = [said(agent_id="b"), said("active", sequence=2), said(agent_id="x")]
    assert await store.apply_reports(mixed) == [ACCEPTED, gone, ReportOutcome.UNKNOWN_AGENT]
    assert await store.apply_reports(mixed[:2], whole=True) == [gone, gone]
    listed = await store.list_agents(name=None, capability=None, after=None, limit=9)
    assert [agent.agent_id for agent in listed] == ["b"]
    kept = await store.get_agent("a")
    assert kept is not None
    assert (kept.deregistered_at, kept.instances[0].state) == (1, "idle")

    await add(store, now=NOW + 1)
    assert await store.apply_reports([said("active", sequence=2)]) == [ACCEPTED]
    assert [t.sequence for t in await told(store)] == [1, 2]
