"""A SQLite file: what may be opened, by whom, and what is left when it closes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path

import pytest

from opscore_middleware.core.records import ReportOutcome
from opscore_middleware.errors import ConfigurationError, OpsCoreError, StoreUnavailable
from opscore_middleware.stores import sqlite_file
from opscore_middleware.stores.schema import Step, steps
from opscore_middleware.stores.sqlite import SqliteStore
from tests.stores.support import add, instances, said, told

aio = pytest.mark.asyncio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "opscore.db"


def at(path: Path) -> SqliteStore:
    return SqliteStore(str(path), busy_timeout=0.05)


async def made(path: Path) -> None:
    """Make a database that holds one report."""
    store = at(path)
    await store.open()
    await add(store)
    await store.apply_reports([said("active", sequence=1)])
    await store.close()


async def refusal(path: Path, error: type[OpsCoreError] = ConfigurationError) -> str:
    """Open what cannot be opened; return why not, once nothing is left behind."""
    threads = set(threading.enumerate())
    with pytest.raises(error) as raised:
        await at(path).open()
    assert raised.value.context["path"] == str(path)
    assert str(path) in raised.value.message
    assert not [t for t in set(threading.enumerate()) - threads if "opscore" in t.name]
    return raised.value.message


@aio
async def test_what_was_answered_is_there_after_a_restart(path: Path) -> None:
    await made(path)
    store = at(path)
    await store.open()
    assert (await instances(store))["i"].state == "active"
    assert await store.apply_reports([said(sequence=1)]) == [ReportOutcome.DUPLICATE]
    await store.apply_reports([said("idle", sequence=2)])
    first, second = await told(store)
    assert first.event_id < second.event_id
    await store.close()


@aio
async def test_an_event_id_is_never_used_twice(path: Path) -> None:
    await made(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        (last,) = connection.execute("SELECT max(event_id) FROM events").fetchone()
        connection.execute("DELETE FROM events")
    store = at(path)
    await store.open()
    await store.apply_reports([said("idle", sequence=2)])
    assert [t.event_id > last for t in await told(store)] == [True]
    await store.close()


@aio
async def test_closing_leaves_one_file_and_no_thread(path: Path) -> None:
    await made(path)
    assert {file.name for file in path.parent.iterdir()} == {"opscore.db", "opscore.db.lock"}
    assert not [t for t in threading.enumerate() if "opscore" in t.name]


@aio
async def test_closing_writes_what_was_asked_for_and_refuses_the_rest(path: Path) -> None:
    store = at(path)
    await store.open()
    await add(store)
    asked = [asyncio.ensure_future(store.apply_reports([said(sequence=n)])) for n in range(1, 101)]
    closing_twice = asyncio.gather(store.close(), store.close())
    outcomes = await asyncio.gather(*asked)
    assert outcomes == [[ReportOutcome.ACCEPTED]] * 100
    await closing_twice
    await store.close()
    for call in (store.apply_reports([said()]), store.get_agent("a")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
    await store.open()
    assert len(await told(store)) == 100
    await store.close()


@aio
async def test_a_store_that_is_not_open_says_so(path: Path) -> None:
    store = at(path)
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.get_agent("a")
    await store.close()
    assert list(path.parent.iterdir()) == []


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Have the disk fail whenever this process reads from a file, or from the log beside it."""
    kept = {}
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):  # the directory itself, which is read no more
            name = str(Path(f"/proc/self/fd/{number}").readlink())
            if name in (str(path), f"{path}-wal"):
                copy = os.open(shutil.copy(name, f"{name}.copy"), os.O_WRONLY)
                kept[number] = os.dup(number)
                os.dup2(copy, number)
                os.close(copy)
    try:
        yield
    finally:
        for number, before in kept.items():
            os.dup2(before, number)
            os.close(before)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@aio
async def test_a_disk_that_fails_to_read_is_named_as_the_cause(path: Path) -> None:
    store = at(path)
    await store.open()
    await add(store)
    much = json.dumps({"much": "x" * 50_000})  # more than a connection keeps in memory
    await store.apply_reports([said(sequence=n, details=much) for n in range(1, 100)])
    for _ in range(2):  # every reader has opened the file
        await store.get_agent("a")
    with unreadable(path), pytest.raises(StoreUnavailable, match="check its disk"):
        await told(store)
    assert len(await told(store)) == 99
    await store.close()


# --- who may hold it -----------------------------------------------------------------------------

HOLDER = """
import asyncio, sys
from opscore_middleware.stores.sqlite import SqliteStore
from tests.stores.support import add, said

async def hold():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await add(store)
    await store.apply_reports([said("active", sequence=1)])
    print("answered", flush=True)
    sys.stdin.read()

asyncio.run(hold())
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has opened the database and had one report answered."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "answered\n"
            yield process
        finally:
            process.kill()


@aio
async def test_a_second_process_is_refused_with_the_reason_and_the_remedy(path: Path) -> None:
    with another_process(path):
        message = await refusal(path)
    assert "one process at a time" in message
    assert "several replicas need PostgreSQL" in message


@aio
async def test_a_process_that_was_killed_lets_the_next_one_in_with_all_that_was_answered(
    path: Path,
) -> None:
    with another_process(path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        store = at(path)
        await store.open()
    assert [t.state for t in await told(store)] == ["active"]
    assert (await instances(store))["i"].state == "active"
    await store.close()


@aio
async def test_two_stores_of_one_process_do_not_share_a_file_either(path: Path) -> None:
    store = at(path)
    await store.open()
    await refusal(path)
    link = path.with_name("link.db")
    link.symlink_to(path)
    await refusal(link)
    await add(store)
    await store.close()
    await made(link)


@aio
async def test_another_program_that_holds_the_file_is_named_as_the_cause(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        message = await refusal(path, StoreUnavailable)
        assert "another program holds it" in message
    await made(path)


@aio
async def test_another_program_that_writes_holds_up_reports_and_nothing_is_lost(
    path: Path,
) -> None:
    await made(path)
    store = at(path)
    await store.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another program holds it"):
            await store.apply_reports([said("idle", sequence=2)])
        assert (await instances(store))["i"].state == "active"
    assert await store.apply_reports([said("idle", sequence=2)]) == [ReportOutcome.ACCEPTED]
    await store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody move a file in use")
@pytest.mark.parametrize("replaced", [False, True])
@aio
async def test_nothing_is_answered_once_the_file_was_taken_away(path: Path, replaced: bool) -> None:
    await made(path)
    store = at(path)
    await store.open()
    kept = path.with_name("kept.db")
    shutil.move(path, kept)
    if replaced:
        shutil.copy(kept, path)
    for call in (store.apply_reports([said("idle", sequence=2)]), store.ping()):
        with pytest.raises(StoreUnavailable, match="taken away while it was in use"):
            await call
    shutil.move(kept, path)
    assert await store.apply_reports([said("idle", sequence=2)]) == [ReportOutcome.ACCEPTED]
    await store.close()


@aio
async def test_a_log_that_somebody_read_for_long_shrinks_again_afterwards(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_CHECKPOINT_PAGES", 20)
    await made(path)
    store = at(path)
    await store.open()
    much = json.dumps({"much": "x" * 50_000})
    numbers = iter(range(2, 1000))
    log = path.with_name(f"{path.name}-wal")

    async def write(count: int) -> int:
        for number in islice(numbers, count):
            await store.apply_reports([said(sequence=number, details=much)])
        return log.stat().st_size

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM events").fetchone()
        assert await write(50) > 50 * 50_000
    assert await write(10) < 20 * 50_000
    await store.close()


# --- what may be opened --------------------------------------------------------------------------


@aio
async def test_a_directory_is_no_database(tmp_path: Path) -> None:
    assert "is a directory" in await refusal(tmp_path)


@aio
async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert f"make {missing}" in await refusal(missing / "opscore.db")
    assert not missing.exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory nobody may write to")
@aio
async def test_a_place_that_cannot_be_written_to_is_refused() -> None:
    assert "writable" in await refusal(Path("/proc/opscore.db"))


def test_a_file_that_is_no_database_is_refused_and_kept(path: Path) -> None:
    text = b"These are the times that try men's souls. " * 100
    path.write_bytes(text)
    assert "not a database" in asyncio.run(refusal(path))
    assert path.read_bytes() == text


def test_a_database_of_another_program_is_refused_and_kept(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    assert "belongs to another program" in asyncio.run(refusal(path))
    assert path.read_bytes() == before


@aio
async def test_a_library_that_is_too_old_is_named_with_its_version(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.36.0")
    with pytest.raises(ConfigurationError, match=r"SQLite 3\.36\.0 is too old, 3\.37\.0"):
        await at(path).open()


# --- its schema ----------------------------------------------------------------------------------


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version


@aio
async def test_the_steps_of_the_schema_are_numbered_from_one(path: Path) -> None:
    assert [step.version for step in steps("sqlite")] == list(range(1, len(steps("sqlite")) + 1))
    await made(path)
    assert version_of(path) == steps("sqlite")[-1].version


@aio
async def test_a_newer_schema_is_refused_with_both_versions_and_the_remedy(path: Path) -> None:
    await made(path)
    newest = version_of(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 4711")
    message = await refusal(path)
    assert "version 4711" in message
    assert f"above {newest}" in message
    assert "install" in message
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newest}")
    store = at(path)
    await store.open()
    assert len(await told(store)) == 1
    await store.close()


@aio
async def test_an_older_schema_is_brought_up_to_date_and_keeps_its_data(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(path)
    known = steps("sqlite")
    following = Step(known[-1].version + 1, "ALTER TABLE agents ADD COLUMN note TEXT;")
    monkeypatch.setattr(sqlite_file, "steps", lambda _: [*known, following])
    store = at(path)
    await store.open()
    assert len(await told(store)) == 1
    await store.close()
    assert version_of(path) == following.version


@aio
async def test_a_step_that_fails_leaves_the_database_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(path)
    known = steps("sqlite")
    broken = Step(known[-1].version + 1, "CREATE TABLE half (x); SELECT * FROM nowhere;")
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "steps", lambda _: [*known, broken])
        assert "nowhere" in await refusal(path, StoreUnavailable)
    assert version_of(path) == known[-1].version
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE name = 'half'")
        assert tables.fetchall() == []
    await made(path)
