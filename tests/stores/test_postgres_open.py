"""A PostgreSQL database: what may be opened, and what its schema becomes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import asyncpg
import pytest
import trustme

from opscore_middleware.core.models import Registration
from opscore_middleware.core.records import ReportOutcome
from opscore_middleware.errors import ConfigurationError, OpsCoreError, StoreUnavailable
from opscore_middleware.stores import open_store
from opscore_middleware.stores import postgres as postgres_store
from opscore_middleware.stores.schema import Step, steps
from tests.stores.support import NOW, add, instances, said, told
from tests.support.postgres import PASSWORD, USER, PostgresServer

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def made(url: str) -> None:
    """Make a database that holds one report."""
    store = open_store(url)
    await store.open()
    await add(store)
    await store.apply_reports([said("active", sequence=1)])
    await store.close()


async def refusal(url: str, error: type[OpsCoreError] = ConfigurationError) -> str:
    """Open what cannot be opened; return why not, which tells no password anywhere."""
    store = open_store(url)
    with pytest.raises(error) as raised:
        await store.open()
    shown = raised.value.context["database"]
    assert shown in raised.value.message
    everything = [repr(store), repr(raised.value.context)]
    cause: BaseException | None = raised.value
    while cause is not None:
        everything += [repr(cause), str(cause)]
        cause = cause.__cause__ or cause.__context__
    password = urlsplit(url).password
    assert password is None or password not in "".join(everything)
    await store.close()
    return raised.value.message


def tls(**files: Path) -> str:
    return urlencode({"sslmode": "verify-full", **files})


def but(url: str, **parts: str) -> str:
    return urlunsplit(urlsplit(url)._replace(**parts))


# --- who may come in -----------------------------------------------------------------------------


async def test_a_wrong_password_is_told_and_not_repeated(postgres_server: PostgresServer) -> None:
    wrong = postgres_server.url.replace(PASSWORD, "wr0ng-pw")
    message = await refusal(wrong)
    assert "check user and password" in message
    assert f"{USER}@127.0.0.1:{postgres_server.port}" in message


async def test_a_missing_database_is_to_be_made(postgres_server: PostgresServer) -> None:
    assert "create the database" in await refusal(but(postgres_server.url, path="/nowhere"))


async def test_a_server_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    message = await refusal(f"postgresql://u:s3cret@127.0.0.1:{port}/db", StoreUnavailable)
    assert f"u@127.0.0.1:{port}/db" in message
    assert "check that it runs" in message


async def test_a_host_without_an_address_is_named() -> None:
    message = await refusal("postgresql://u:s3cret@nowhere.invalid/db", StoreUnavailable)
    assert "nowhere.invalid" in message


async def test_an_option_that_the_driver_cannot_take_is_refused() -> None:
    assert "check the address" in await refusal("postgresql://u:s3cret@h/d?sslmode=odd")


async def test_an_option_that_the_server_does_not_know_is_refused(
    postgres_server: PostgresServer,
) -> None:
    assert "check the address's options" in await refusal(f"{postgres_server.url}?sslmod=require")


@pytest.mark.parametrize("option", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
async def test_a_file_of_certificates_that_is_not_there_is_named(
    postgres_server: PostgresServer, tmp_path: Path, option: str
) -> None:
    real, gone = tmp_path / "real.pem", tmp_path / "gone.pem"
    trustme.CA().cert_pem.write_to_path(str(real))
    files = {"sslrootcert": real, "sslcert": real, option: gone}
    message = await refusal(but(postgres_server.url, query=tls(**files)))
    assert f"{option}={str(gone)!r} cannot be read (No such file" in message
    assert f"leave {option} out" in message


async def test_such_a_file_is_named_where_the_environment_names_it(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path))
    message = await refusal(but(postgres_server.url, query=tls()))
    assert f"PGSSLROOTCERT={str(tmp_path)!r} cannot be read (Is a directory)" in message


async def test_a_file_that_holds_no_certificate_is_looked_for_by_whoever_reads_the_refusal(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    file = tmp_path / "root.pem"
    file.write_text("none")
    url = but(postgres_server.url, query=tls(sslrootcert=file))
    assert "the files of certificates" in await refusal(url, StoreUnavailable)


async def test_a_server_without_tls_is_said_to_have_none(postgres_server: PostgresServer) -> None:
    message = await refusal(but(postgres_server.url, query="sslmode=require"))
    assert "choose another sslmode" in message


@pytest.mark.parametrize("text", [None, "[other]\nhost=h\n", "none", "[mine\n"])
async def test_a_service_that_no_file_describes_is_refused(
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    text: str | None,
) -> None:
    file = tmp_path / "services"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    message = await refusal(but(postgres_server.url, query="service=mine"))
    assert "service='mine' is not known" in message
    assert str(file) in message


async def test_a_service_that_a_file_describes_is_opened(
    postgres: str,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    name = urlsplit(postgres).path.removeprefix("/")
    file = tmp_path / "services"
    file.write_text(
        f"[mine]\nhost=127.0.0.1\nport={postgres_server.port}\ndbname={name}\n"
        f"user={USER}\npassword={PASSWORD}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    await made("postgresql://?service=mine")
    assert await version_of(postgres) == steps("postgres")[-1].version


@pytest.mark.parametrize(
    ("url", "port"), [("postgresql://u@127.0.0.1/d", "x"), (f"postgresql://u@{'a' * 300}/d", "")]
)
async def test_what_the_driver_stumbles_over_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, port: str
) -> None:
    monkeypatch.setenv("PGPORT", port)
    assert "PGPORT" in await refusal(url)


async def test_a_user_who_may_make_nothing_is_told_what_to_grant(
    postgres_server: PostgresServer,
) -> None:
    url = but(postgres_server.url, path="/guarded").replace(f"{USER}:{PASSWORD}", "guest:s3cret")
    async with connected(postgres_server.local_url) as connection:
        await connection.execute("CREATE ROLE guest LOGIN PASSWORD 's3cret'")
        await connection.execute("CREATE DATABASE guarded")
        assert "GRANT CREATE ON DATABASE" in await refusal(url)
        async with connected(but(postgres_server.local_url, path="/guarded")) as owner:
            await owner.execute("CREATE SCHEMA opscore AUTHORIZATION guest")
        await made(url)
        await connection.execute("DROP DATABASE guarded")
        await connection.execute("DROP ROLE guest")


async def test_an_encoding_that_cannot_hold_everything_is_refused(
    postgres_server: PostgresServer,
) -> None:
    async with connected(postgres_server.local_url) as connection:
        await connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        message = await refusal(but(postgres_server.url, path="/latin"))
        assert "LATIN1" in message
        assert "ENCODING 'UTF8'" in message
        await connection.execute("DROP DATABASE latin")


async def test_a_server_that_is_too_old_is_named_with_its_version(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = asyncpg.types.ServerVersion(13, 9, 0, "final", 0)
    monkeypatch.setattr(asyncpg.Connection, "get_server_version", lambda self: version)
    message = await refusal(postgres)
    assert "PostgreSQL 13" in message
    assert "14 is the oldest" in message


# --- its schema ----------------------------------------------------------------------------------


async def version_of(url: str) -> int:
    async with connected(url) as connection:
        version: int = await connection.fetchval("SELECT max(version) FROM opscore.opscore_schema")
        return version


def following(sql: str) -> Step:
    return Step(steps("postgres")[-1].version + 1, sql)


async def test_the_steps_of_the_schema_are_numbered_from_one(postgres: str) -> None:
    known = [step.version for step in steps("postgres")]
    assert known == list(range(1, len(known) + 1))
    await made(postgres)
    assert await version_of(postgres) == known[-1]


async def test_everything_lies_in_a_schema_of_its_own(postgres: str) -> None:
    everything = """
        SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema', 'opscore')"""
    async with connected(postgres) as connection:
        before = await connection.fetchval(everything)
        await made(postgres)
        assert await connection.fetchval(everything) == before


async def test_what_was_answered_is_there_after_a_restart(postgres: str) -> None:
    await made(postgres)
    store = open_store(postgres)
    await store.open()
    assert (await instances(store))["i"].state == "active"
    assert await store.apply_reports([said(sequence=1)]) == [ReportOutcome.DUPLICATE]
    await store.close()


async def test_replicas_that_start_together_make_the_schema_once(postgres: str) -> None:
    stores = [open_store(postgres) for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    await add(stores[0])
    for store in stores:
        assert await store.get_agent("a") is not None
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_newer_schema_is_refused_with_both_versions_and_the_remedy(postgres: str) -> None:
    await made(postgres)
    newest = await version_of(postgres)
    async with connected(postgres) as connection:
        await connection.execute("INSERT INTO opscore.opscore_schema VALUES (4711)")
        message = await refusal(postgres)
        assert "version 4711" in message
        assert f"above {newest}" in message
        assert "install" in message
        await connection.execute("DELETE FROM opscore.opscore_schema WHERE version = 4711")
    await made(postgres)


async def test_an_upgrade_keeps_the_data_and_lets_the_release_before_go_on(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_store(postgres)
    await before.open()
    await add(before)
    await before.apply_reports([said("active", sequence=1)])
    await before.get_agent("a")
    added = following(
        "ALTER TABLE opscore.agents ADD COLUMN note text;"
        "ALTER TABLE opscore.instances ADD COLUMN note text NOT NULL DEFAULT '';"
        "ALTER TABLE opscore.events ADD COLUMN note text;"
    )
    known = [*steps("postgres"), added]
    monkeypatch.setattr(postgres_store, "steps", lambda _: known)
    after = open_store(postgres)
    await after.open()
    assert await version_of(postgres) == added.version
    for sequence, store in ((2, before), (3, after), (4, before)):
        await add(store)
        assert await store.apply_reports([said(sequence=sequence)]) == [ReportOutcome.ACCEPTED]
    for store in (before, after):
        assert len(await told(store)) == 4
        assert (await instances(store))["i"].sequence == 4
        assert len(await store.events(after=0, limit=9, max_size=999)) == 4
        await store.close()


async def test_a_step_that_fails_leaves_the_database_as_it_was(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(postgres)
    broken = following("CREATE TABLE opscore.half (x int); SELECT * FROM opscore.nowhere;")
    with monkeypatch.context() as patch:
        known = [*steps("postgres"), broken]
        patch.setattr(postgres_store, "steps", lambda _: known)
        assert "nowhere" in await refusal(postgres, StoreUnavailable)
    assert await version_of(postgres) == broken.version - 1
    async with connected(postgres) as connection:
        assert await connection.fetchval("SELECT to_regclass('opscore.half')") is None
    await made(postgres)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_replicas_take_turns_whatever_isolation_the_database_is_set_to(
    postgres: str, isolation: str
) -> None:
    name = urlsplit(postgres).path.removeprefix("/")
    async with connected(postgres) as connection:
        await connection.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'"
        )
        stores = [open_store(postgres) for _ in range(2)]
        try:
            for store in stores:
                await store.open()
            registered = await asyncio.gather(
                *(
                    store.register(Registration(agent_name="n"), new_id=f"id-{n}", now=NOW)
                    for n in range(20)
                    for store in stores
                )
            )
        finally:
            for store in stores:
                await store.close()
            await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")
    assert len({r.agent.agent_id for r in registered if r is not None}) == 1
