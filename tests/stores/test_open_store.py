"""Which address opens which store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from opscore_middleware.errors import ConfigurationError
from opscore_middleware.stores import open_store
from opscore_middleware.stores.postgres_address import Address


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("sqlite:///opscore.db", "opscore.db"),
        ("sqlite:///data/ops%20core.db", "data/ops core.db"),
        ("sqlite:////var/lib/opscore.db", "/var/lib/opscore.db"),
        (" SQLite:///opscore.db ", "opscore.db"),
        ("sqlite:///:memory:", ":memory:"),
        ("sqlite://", ":memory:"),
    ],
)
def test_a_sqlite_address_names_a_file_or_memory(address: str, path: str) -> None:
    store = open_store(address)
    assert store.name == "sqlite"
    assert repr(store) == f"SqliteStore({path!r})"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://user:s3cret@db/opscore", "postgresql://user@db/opscore"),
        ("postgres://user:s3cret@db:5433/opscore", "postgresql://user@db:5433/opscore"),
        ("postgresql+asyncpg://u%40x:s3%40cret@db/o", "postgresql://u%40x@db/o"),
        ("postgresql://user@db/opscore?password=s3cret", "postgresql://user@db/opscore"),
        ("postgresql://db/o?sslpassword=s3cret&sslmode=require", "postgresql://db/o"),
        ("postgresql:///o?host=/run/pg&port=5433", "postgresql:///o?host=/run/pg&port=5433"),
        ("postgresql://a:1,b:2/o", "postgresql://a:1,b:2/o"),
        ("postgresql://user:s3@cret@db/o", "postgresql://user@db/o"),
        ("postgresql://user@[::1]:5433/o", "postgresql://user@[::1]:5433/o"),
    ],
)
def test_a_postgresql_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    store = open_store(address)
    assert store.name == "postgresql"
    assert repr(store) == f"PostgresStore({shown!r})"
    assert "cret" not in repr(Address.of(urlsplit(address)))


@pytest.mark.parametrize(
    ("address", "password"),
    [
        ("postgresql://user:a%40b@db/o", "a@b"),
        ("postgresql://user@db/o?password=a%40b", "a@b"),
        ("postgresql://user:@db/o", ""),
        ("postgresql://user@db/o", None),
    ],
)
def test_the_password_is_handed_to_the_driver_and_left_out_of_the_rest(
    address: str, password: str | None
) -> None:
    taken_apart = Address.of(urlsplit(address))
    assert taken_apart.password == password
    assert taken_apart.dsn == taken_apart.shown == "postgresql://user@db/o"


def test_nothing_is_made_before_the_store_is_opened(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'opscore.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("mysql://user:s3cret@db/opscore", "scheme"),
        ("opscore.db", "scheme"),
        ("/var/lib/s3cret.db", "scheme"),
        ("", "scheme"),
        ("sqlite:opscore.db?key=s3cret", "options"),
        ("sqlite://user:s3cret@opscore.db", "three slashes"),
        ("sqlite://opscore.db", "three slashes"),
        ("sqlite:///opscore.db?mode=ro", "options"),
        ("sqlite:///opscore.db#s3cret", "options"),
        ("sqlite:///", "no file"),
        ("postgresql://[s3cret", "cannot be read"),
        ("postgresql://user:s3cret@host:port/db", "port"),
        ("postgresql://user:s3cret/2@host/db", "%2F"),
        ("postgresql://user:s3cret?2@host/db", "%3F"),
        ("postgresql://user:s3cret#2@host/db", "%23"),
    ],
)
def test_any_other_address_is_refused_with_examples_and_without_secrets(
    address: str, says: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        open_store(address)
    assert says in raised.value.message
    assert "sqlite:///opscore.db" in raised.value.message
    assert "s3cret" not in raised.value.message
    assert raised.value.context == {}
    assert raised.value.__cause__ is None
