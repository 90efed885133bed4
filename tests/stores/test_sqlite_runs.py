"""What runs in SQLite rely on: shared commits, indexes without finished tasks, and upgrades."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from opscore_middleware.core.runs.records import Advance, Run
from opscore_middleware.core.runs.tasks import TaskState
from opscore_middleware.stores import (
    sqlite_advances,
    sqlite_claims,
    sqlite_tasks,
    sqlite_vacancies,
    sqlite_words,
)
from opscore_middleware.stores.schema import steps
from opscore_middleware.stores.sqlite import SqliteStore
from opscore_middleware.stores.sqlite_upgrade import APPLICATION_ID
from tests.stores.run_support import claimed, ends, given, idle, sets, task
from tests.stores.support import NOW

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(str(tmp_path / "opscore.db"))
    await store.open()
    yield store
    await store.close()


async def statements_of(store: SqliteStore) -> list[str]:
    """A list that grows with every statement that the writer executes."""
    told: list[str] = []
    await store._open_writer().run(lambda connection: connection.set_trace_callback(told.append))
    told.clear()
    return told


async def test_runs_advanced_at_once_are_read_once_and_share_a_commit(store: SqliteStore) -> None:
    for n in range(20):
        await given(store, task(f"t{n}"), task(f"u{n}"), session_id=f"s{n}")
    told = await statements_of(store)
    steps = [Advance(ends(f"{name}{n}"), task_id=f"{name}{n}") for n in range(20) for name in "tu"]
    await asyncio.gather(store.advance(steps[:30], now=NOW), store.advance(steps[30:], now=NOW))
    reads = [statement for statement in told if statement.lstrip().startswith("SELECT")]
    commits = told.count("COMMIT")
    assert 1 <= commits <= 2
    assert len(reads) <= 4 * commits


async def test_a_step_whose_data_cannot_be_kept_fails_alone(store: SqliteStore) -> None:
    await given(store, task("t"))
    await given(store, task("u"), session_id="other")
    broken, well = await store.advance(
        [
            Advance(sets("t", result="\ud800"), task_id="t"),
            Advance(ends("u"), task_id="u"),
        ],
        now=NOW,
    )
    assert isinstance(broken, UnicodeEncodeError)
    assert isinstance(well, Run)
    tasks = [await store.get_task(name) for name in "tu"]
    assert [t.state for t in tasks if t is not None] == [TaskState.READY, TaskState.COMPLETED]


async def test_two_open_attempts_in_one_slot_cannot_be_kept(store: SqliteStore) -> None:
    await idle(store)
    await given(store, task("t"), task("u"))
    assert await claimed(store) == {"t": ("a", "i")}
    (refused,) = await store.advance(
        [
            Advance(
                sets("u", state=TaskState.DISPATCHED, agent_id="a", instance_id="i"), task_id="u"
            )
        ],
        now=NOW,
    )
    assert isinstance(refused, sqlite3.IntegrityError)


async def test_whose_turn_it_is_to_hear_waits_for_no_disk_and_all_else_does(
    store: SqliteStore,
) -> None:
    told = await statements_of(store)
    await store.hearing(holder="h", lease=10, now=NOW)
    await store.heard(holder="h", event_id=1)
    await store.save_workflow("w", "{}", now=NOW)
    await store.hearing(holder="h", lease=10, now=NOW)
    assert [one for one in told if one == "COMMIT" or "synchronous" in one] == [
        *("PRAGMA synchronous = NORMAL", "COMMIT", "COMMIT"),
        *("PRAGMA synchronous = FULL", "COMMIT"),
        *("PRAGMA synchronous = NORMAL", "COMMIT"),
    ]


async def test_a_start_finds_the_version_that_was_saved_last(store: SqliteStore) -> None:
    saves = [f'{{"n":{n}}}' for n in range(5)]
    for version, text in enumerate(saves, 1):
        await store.save_workflow("w", text, now=NOW)
        found = [await store.get_workflow("w"), await store.get_workflow("w")]
        assert [(one.version, one.definition) for one in found if one] == [(version, text)] * 2


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (sqlite_claims._QUEUES, "tasks_queued"),
        (sqlite_claims._WAITING, "tasks_queued"),
        (sqlite_vacancies._WITH_KEYS, "tasks_open"),
        (sqlite_vacancies._OF_AGENTS, "tasks_open"),
        (sqlite_tasks._NEXT_READY, "tasks_queued"),
        (sqlite_tasks._DUE, "tasks_by_deadline"),
        (sqlite_tasks._OPEN_OF, "tasks_open"),
        (sqlite_tasks._ON_LOST, "tasks_open"),
        (sqlite_words._WORDS, "tasks_open"),
        (sqlite_advances._HOLDERS, "tasks_open"),
    ],
)
async def test_finished_tasks_are_not_looked_at(store: SqliteStore, query: str, index: str) -> None:
    def plan(connection: sqlite3.Connection) -> list[str]:
        names = {"queues": "[]"} | {"now": 0, "limit": 1}
        values = names if ":" in query else [0] * (3 if "?3" in query else query.count("?"))
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]

    # The tables that are walked through are those of one query alone; tasks never are.
    steps = await store._open_writer().run(plan)
    walks = [step for step in steps if step.startswith("SCAN") and index not in step]
    assert not {step.split()[1] for step in walks} & {"tasks", "t", "first"}
    assert any(index in step for step in steps)


async def test_the_turn_to_hear_is_free_once_the_file_is_opened_again(tmp_path: Path) -> None:
    path = str(tmp_path / "opscore.db")
    for holder in ("before the restart", "after it"):
        store = SqliteStore(path)
        await store.open()
        assert await store.hearing(holder=holder, lease=10**12, now=NOW) is not None
        await store.close()


def older(path: Path, version: int, *statements: str) -> None:
    """Have a database as a release left it whose schema had this version."""
    with closing(sqlite3.connect(path)) as connection:
        for step in steps("sqlite")[:version]:
            connection.executescript(step.sql)
        connection.executescript(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};"
        )
        for statement in statements:
            connection.execute(statement)
        connection.commit()


async def test_agents_of_an_older_release_get_tasks_by_what_they_can_do(tmp_path: Path) -> None:
    path = tmp_path / "opscore.db"
    older(
        path,
        4,
        "INSERT INTO agents (agent_key, agent_id, agent_name, version, capabilities,"
        """ registered_at, updated_at) VALUES (1, 'a', 'a', '', '["c","c","d"]', 1, 1)""",
    )
    store = SqliteStore(str(path))
    await store.open()
    assert await store.candidates(pinned=None, capability="c") == ["a"]
    await store.close()


async def test_tasks_of_an_older_release_are_due_unless_they_have_ended(tmp_path: Path) -> None:
    path = tmp_path / "opscore.db"
    older(
        path,
        6,
        "INSERT INTO agents (agent_key, agent_id, agent_name, version, capabilities,"
        " registered_at, updated_at) VALUES (1, 'a', 'a', '', '[]', 1, 1)",
        "INSERT INTO sessions (session_key, session_id, agent_key, state, created_at, updated_at)"
        " VALUES (1, 's', 1, 'running', 1, 1)",
        "INSERT INTO tasks (task_id, session_key, node, name, state, priority, pinned, attempt,"
        " spent, start_within, rerouted, inferred, created_at, stopped, deadline_at)"
        " SELECT value, 1, 'n', 'n', value, 0, 'a', 1, 0, 1, 0, 0, 1, 0, 1"
        """ FROM json_each('["running","completed"]')""",
    )
    store = SqliteStore(str(path))
    await store.open()
    assert [task.task_id for task in await store.due(now=NOW, limit=10)] == ["running"]
    await store.close()
