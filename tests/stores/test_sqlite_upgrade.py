"""A database of every release is brought up to date, whole, with the old one kept beside it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest

from opscore_middleware.core.models import Order
from opscore_middleware.core.records import ReportOutcome
from opscore_middleware.core.store import Store
from opscore_middleware.errors import OpsCoreError, StoreUnavailable
from opscore_middleware.stores import schema, sqlite_file, sqlite_upgrade
from opscore_middleware.stores.schema import Step, steps
from opscore_middleware.stores.sqlite import SqliteStore
from tests.stores.support import NOW, instances, said, told
from tests.support.waiting import wait_until

aio = pytest.mark.asyncio

KNOWN: Final = steps("sqlite")
NEWEST: Final = KNOWN[-1].version
RELEASED: Final = Path(__file__).with_name("released")
# What was released is never edited; a change is a step of its own.
UNTOUCHED: Final = {
    "0001_initial.sql": "0864dc1e6da232baf5dabacc189a7167572b941ffb005c535f5c4b8261498759",
}

ROWS: Final = f"""
INSERT INTO agents (agent_key, agent_id, agent_name, version, capabilities, registered_at,
                    updated_at, deregistered_at)
VALUES (7, 'a', 'name', '1', '["echo"]', {NOW}, {NOW}, NULL),
       (8, 'gone', 'name', '1', '[]', {NOW}, {NOW}, {NOW + 1});
INSERT INTO instances (instance_key, agent_key, instance_id, state, details, timestamp,
                       effective_at, sequence, started_at, last_seen_at)
VALUES (3, 7, 'i', 'active', '{{"k":1}}', {NOW}, {NOW}, 41, {NOW}, {NOW}),
       (4, 8, '', 'idle', NULL, {NOW}, {NOW}, NULL, NULL, {NOW});
INSERT INTO events (event_id, agent_key, instance_key, sequence, state, details, timestamp,
                    received_at, coalesced, errors)
VALUES (100, 7, 3, 40, 'idle', NULL, {NOW}, {NOW}, 0, 0),
       (101, 7, 3, 41, 'active', '{{"k":1}}', {NOW}, {NOW}, 2, 1),
       (102, 8, 4, NULL, 'idle', NULL, {NOW}, {NOW}, 0, 0);
"""  # noqa: S608 - made of constants


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "opscore.db"


def make(path: Path, version: int) -> None:
    """Make a database as the release with that schema did, with data in it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for step in KNOWN[:version]:
            connection.executescript(step.sql)
        connection.executescript(
            f"{ROWS} PRAGMA application_id = {sqlite_upgrade.APPLICATION_ID};"
            f"PRAGMA user_version = {version};"
        )


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def copies(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.glob("*.bak*"))


async def opened(path: Path) -> SqliteStore:
    store = SqliteStore(str(path), busy_timeout=0.05)
    await store.open()
    return store


def upgrade(path: Path) -> list[int]:
    """Open the database and close it; return the ids of agent a's events."""

    async def look() -> list[int]:
        store = await opened(path)
        ids = [transition.event_id for transition in await told(store)]
        await store.close()
        return ids

    return asyncio.run(look())


def add_steps(monkeypatch: pytest.MonkeyPatch, *sql: str) -> None:
    """Let this release know more steps than it does."""
    more = [Step(NEWEST + n, text) for n, text in enumerate(sql, start=1)]
    monkeypatch.setattr(sqlite_file, "steps", lambda _: [*KNOWN, *more])


# --- every release -------------------------------------------------------------------------------


def test_a_released_step_is_never_edited() -> None:
    folder = files(schema).joinpath("sqlite")
    for name, digest in UNTOUCHED.items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest


@aio
@pytest.mark.parametrize("version", [step.version for step in KNOWN])
async def test_a_database_of_each_schema_keeps_state_history_and_ids(
    path: Path, version: int
) -> None:
    make(path, version)
    store = await opened(path)
    agent, gone = await store.get_agent("a"), await store.get_agent("gone")
    assert agent is not None
    assert gone is not None
    assert (agent.capabilities, gone.deregistered_at) == (("echo",), NOW + 1)
    assert [(i.instance_id, i.state, i.details, i.sequence) for i in agent.instances] == [
        ("i", "active", '{"k":1}', 41)
    ]
    assert [(t.event_id, t.sequence, t.coalesced, t.errors) for t in await told(store)] == [
        *((100, 40, 0, 0), (101, 41, 2, 1)),
    ]
    repeat, new = said("active", sequence=41), said("idle", sequence=42)
    assert await store.apply_reports([repeat, new]) == [
        *(ReportOutcome.DUPLICATE, ReportOutcome.ACCEPTED),
    ]
    assert (await told(store))[-1].event_id > 102
    await store.close()
    assert version_of(path) == NEWEST
    assert copies(path) == ([f"opscore.db.v{version}.bak"] if version < NEWEST else [])


@aio
@pytest.mark.parametrize("name", sorted(p.stem for p in RELEASED.glob("*.sql")))
async def test_what_a_released_server_left_behind_reads_as_it_did(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((RELEASED / f"{name}.sql").read_text(encoding="utf-8"))
    expected = json.loads((RELEASED / f"{name}.json").read_text(encoding="utf-8"))
    store = await opened(path)
    assert await everything(store, like=expected) == expected
    assert (await instances(store))["i"].interval is None
    await store.close()
    assert version_of(path) == NEWEST


async def everything(store: Store, *, like: dict[str, Any]) -> dict[str, Any]:
    """Return all agents and histories with the fields that a release knew."""
    fields = next(a["instances"][0] for a in like["agents"] if a["instances"]).keys()
    agents = await store.list_agents(name=None, capability=None, after=None, limit=100)
    return {
        "agents": [
            {
                **{f: agent._asdict()[f] for f in like["agents"][0]},
                "capabilities": list(agent.capabilities),
                "instances": [{f: i._asdict()[f] for f in fields} for i in agent.instances],
            }
            for agent in agents
        ],
        "history": {
            agent.agent_id: [
                t.model_dump(mode="json")
                for t in await store.history(agent.agent_id, order=Order.ASC, after=None, limit=100)
            ]
            for agent in agents
        },
    }


# --- the copy ------------------------------------------------------------------------------------


def test_the_old_database_is_kept_beside_the_new_one_and_told_of(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make(path, 1)
    before = dump(path)
    upgrade(path)
    kept = Path(f"{path}.v1.bak")
    assert dump(kept) == before
    assert version_of(kept) == 1
    (line,) = [r.getMessage() for r in caplog.records if r.name.endswith("sqlite_upgrade")]
    assert f"from schema version 1 to {NEWEST}" in line
    assert str(kept) in line


def test_no_copy_is_ever_overwritten(path: Path) -> None:
    make(path, 1)
    first = Path(f"{path}.v1.bak")
    first.write_text("somebody's")
    Path(f"{path}.bak.part").write_text("what a crash left")
    upgrade(path)
    assert copies(path) == ["opscore.db.v1.2.bak", "opscore.db.v1.bak"]
    assert first.read_text() == "somebody's"
    assert version_of(Path(f"{path}.v1.2.bak")) == 1


def test_a_new_database_and_one_that_is_up_to_date_are_not_copied(path: Path) -> None:
    for _ in range(2):
        upgrade(path)
    assert copies(path) == []


def test_without_a_copy_nothing_is_upgraded(path: Path) -> None:
    make(path, 1)
    before = dump(path)
    Path(f"{path}.bak.part").mkdir()
    with pytest.raises(StoreUnavailable, match="was not upgraded") as raised:
        upgrade(path)
    assert raised.value.context == {"path": str(path)}
    assert dump(path) == before
    assert version_of(path) == 1


# --- all or none ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    ["SELECT * FROM nowhere;", "CREATE TABLE half (x", "INSERT INTO agents (x) VALUES (1);"],
)
def test_of_several_steps_the_last_one_failing_takes_all_back(
    path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    make(path, 1)
    before = dump(path)
    with monkeypatch.context() as patch:
        add_steps(patch, "CREATE TABLE half (x);", f"DROP TABLE events; {broken}")
        with pytest.raises(OpsCoreError) as raised:
            upgrade(path)
    assert str(path) in raised.value.message
    assert dump(path) == before
    assert version_of(path) == 1
    assert upgrade(path) == [100, 101]


ENDLESS: Final = """
CREATE TABLE half (x);
DELETE FROM events; DELETE FROM instances; DELETE FROM agents;
INSERT INTO half
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000000)
SELECT randomblob(500) FROM n;
"""
SCRIPT: Final = """
import asyncio, sys
from opscore_middleware.stores import sqlite_file
from opscore_middleware.stores.schema import Step
from opscore_middleware.stores.sqlite import SqliteStore
known = sqlite_file.steps("sqlite")
endless = Step(known[-1].version + 1, sys.argv[2])
sqlite_file.steps = lambda _: [*known, endless]
asyncio.run(SqliteStore(sys.argv[1]).open())
"""


def test_a_kill_in_the_middle_leaves_the_old_database_as_it_was(path: Path) -> None:
    make(path, 1)
    before = dump(path)
    log = Path(f"{path}-wal")
    upgrading = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), ENDLESS])
    try:
        wait_until(
            lambda: log.exists() and log.stat().st_size > 4_000_000,
            message="the upgrade to have written a part",
        )
        assert upgrading.poll() is None
    finally:
        upgrading.kill()
        assert upgrading.wait() == -signal.SIGKILL
    assert version_of(path) == 1
    assert dump(path) == before
    assert dump(Path(f"{path}.v1.bak")) == before
    assert upgrade(path) == [100, 101]
    assert version_of(path) == NEWEST
