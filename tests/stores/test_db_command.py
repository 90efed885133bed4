"""`opscore db`: what a database's schema lacks, told without touching it, and put right."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest

from opscore_middleware.cli import main
from opscore_middleware.stores import open_store, postgres_upgrade, sqlite_upgrade
from opscore_middleware.stores.postgres_address import Address
from opscore_middleware.stores.postgres_connections import Connections
from opscore_middleware.stores.schema import Step, steps
from tests.support.postgres import PASSWORD, PostgresServer, empty
from tests.support.processes import running_opscore


class Done(NamedTuple):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`opscore db …` in this process."""

    def run(*arguments: str, database: str) -> Done:
        argv = ["opscore", "db", *arguments, "--database", database]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database of each kind that holds nothing yet."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres")
        return url
    return f"sqlite:///{tmp_path}/opscore.db"


def made_by_the_release_before(database: str) -> None:
    """Make the schema as a release knows it that lacks the newest step."""
    if database.startswith("sqlite"):
        path = database.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            sqlite_upgrade.upgrade(connection, None, steps("sqlite")[:-1])
    else:
        asyncio.run(_make_postgres(database))


async def _make_postgres(database: str) -> None:
    connections = Connections(Address.of(urlsplit(database)), size=1)
    await connections.open()
    async with connections.raw() as connection:
        await postgres_upgrade.upgrade(connection, database, steps("postgres")[:-1])
    await connections.close()


async def _open_and_close(database: str) -> None:
    store = open_store(database)
    await store.open()
    await store.close()


def told(done: Done) -> dict[str, Any]:
    """What `--json` printed."""
    answer: dict[str, Any] = json.loads(done.out)
    return answer


def test_a_database_without_a_schema_lacks_every_step_and_is_left_alone(
    db: Run, database: str, tmp_path: Path
) -> None:
    for _ in range(2):
        done = db("status", "--json", database=database)
        dialect = "sqlite" if "sqlite" in database else "postgres"
        assert done.code == 1
        assert told(done)["found"] == 0
        assert told(done)["missing"] == [step.name for step in steps(dialect)]
    assert list(tmp_path.iterdir()) == []


def test_what_a_new_release_adds_is_named_and_then_taken(db: Run, database: str) -> None:
    made_by_the_release_before(database)
    newest = steps("sqlite" if "sqlite" in database else "postgres")[-1]
    behind = db("status", "--json", database=database)
    assert behind.code == 1
    assert (told(behind)["found"], told(behind)["wanted"]) == (newest.version - 1, newest.version)
    assert told(behind)["missing"] == [newest.name]
    assert newest.name in db("status", database=database).out

    upgraded = db("upgrade", database=database)
    assert upgraded.code == 0
    assert f"from schema version {newest.version - 1} to {newest.version}" in upgraded.out

    after = db("status", "--json", database=database)
    assert after.code == 0
    assert told(after)["missing"] == []
    again = db("upgrade", database=database)
    assert (again.code, again.out.count("\n")) == (0, 1)
    assert "is up to date" in again.out


def test_the_upgrade_of_a_file_leaves_a_copy_beside_it(db: Run, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/opscore.db"
    made_by_the_release_before(database)
    assert db("upgrade", database=database).code == 0
    before = steps("sqlite")[-1].version - 1
    assert (tmp_path / f"opscore.db.v{before}.bak").exists()


def test_a_file_that_is_being_served_can_be_looked_at_and_not_upgraded(
    db: Run, tmp_path: Path
) -> None:
    with running_opscore(tmp_path) as opscore:
        database = f"sqlite:///{opscore.database}"
        assert db("status", database=database).code == 0
        refused = db("upgrade", database=database)
    assert refused.code == 2
    assert "already in use" in refused.err


def test_a_password_is_not_shown(db: Run, postgres_server: PostgresServer) -> None:
    empty(postgres_server.url)
    for arguments in (("status",), ("status", "--json"), ("upgrade",)):
        done = db(*arguments, database=postgres_server.url)
        assert f"127.0.0.1:{postgres_server.port}" in done.out
        assert PASSWORD not in f"{done.out}{done.err}"
    empty(postgres_server.url)


def test_a_database_of_a_newer_release_is_refused_with_both_versions(
    db: Run, tmp_path: Path
) -> None:
    path = tmp_path / "opscore.db"
    asyncio.run(_open_and_close(f"sqlite:///{path}"))
    wanted = steps("sqlite")[-1].version
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {wanted + 1}")
    done = db("status", database=f"sqlite:///{path}")
    assert done.code == 2
    assert f"schema version {wanted + 1}" in done.err
    assert f"none above {wanted}" in done.err


@pytest.mark.parametrize("command", ["status", "upgrade"])
def test_a_file_of_another_program_is_refused(db: Run, tmp_path: Path, command: str) -> None:
    path = tmp_path / "opscore.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE somebody_elses (x)")
    done = db(command, database=f"sqlite:///{path}")
    assert done.code == 2
    assert "belongs to another program" in done.err


def test_a_server_that_does_not_answer_is_no_schema_that_lacks_steps(db: Run) -> None:
    done = db("status", database="postgresql://u:hidden@127.0.0.1:1/d")
    assert done.code == 2
    assert "cannot be used right now" in done.err
    assert "hidden" not in done.err
    assert done.err.count("\n") == 1


def test_a_step_gives_way_to_who_reads_its_table_and_is_taken_later(
    db: Run, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(_open_and_close(postgres))
    known = steps("postgres")
    altering = Step(known[-1].version + 1, "ALTER TABLE opscore.agents ADD COLUMN x int", "more")
    monkeypatch.setattr("opscore_middleware.stores.postgres.steps", lambda _: [*known, altering])
    monkeypatch.setattr(
        "opscore_middleware.stores.postgres_upgrade._YIELD", "SET LOCAL lock_timeout = '100ms'"
    )

    async def upgrade_while_somebody_reads() -> Done:
        reader = await asyncpg.connect(postgres)
        async with reader.transaction():
            await reader.execute("LOCK TABLE opscore.agents IN ACCESS SHARE MODE")
            done = await asyncio.to_thread(db, "upgrade", database=postgres)
        await reader.close()
        return done

    given_up = asyncio.run(upgrade_while_somebody_reads())
    assert given_up.code == 1
    assert "try again" in given_up.err
    assert db("upgrade", database=postgres).code == 0
