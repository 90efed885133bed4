"""Which address opens which store."""

from __future__ import annotations

from pathlib import Path

import pytest

from opscore_middleware.errors import ConfigurationError
from opscore_middleware.stores import open_store


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


def test_nothing_is_made_before_the_store_is_opened(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'opscore.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("postgresql://user:s3cret@db/opscore", "PostgreSQL"),
        ("postgresql+asyncpg://user:s3cret@db/opscore", "PostgreSQL"),
        ("postgres://user:s3cret@db/opscore", "PostgreSQL"),
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
