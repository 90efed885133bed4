"""Keys from the command line: shown once, kept as digests, taken by a server that runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from opscore_middleware.cli import main
from opscore_middleware.core.keys import digest, parse_keys
from tests.support.processes import running_opscore
from tests.support.waiting import wait_until


class Done(NamedTuple):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


class Keys:
    """`opscore keys …` in this process, on one file."""

    def __init__(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.path = path
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["opscore", "keys", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    def add(self, *arguments: str) -> Done:
        return self("add", *arguments, "--file", str(self.path))


@pytest.fixture
def keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Keys:
    monkeypatch.delenv("OPSCORE_API_KEYS_FILE", raising=False)
    return Keys(tmp_path / "keys.toml", monkeypatch, capsys)


def test_a_key_is_shown_once_and_kept_as_its_digest(keys: Keys) -> None:
    added = keys.add("dashboard", "--scope", "read", "--expires", "90d")
    token = added.out.strip()
    assert token.startswith("opscore_")
    (key,) = parse_keys(keys.path.read_text())
    assert (key.name, str(key.scope), key.digest) == ("dashboard", "read", digest(token.encode()))
    assert key.expires is not None
    assert token not in keys.path.read_text() + added.err
    assert keys.path.stat().st_mode & 0o777 == 0o600


def test_keys_are_listed_without_what_opens_the_server(keys: Keys) -> None:
    keys.path.write_text(
        "# by hand\n[[keys]]" + f'\nname="old"\nscope="admin"\nsha256="{"0" * 64}"'
    )
    assert keys.add("workers", "--scope", "agent:worker-*", "--expires", "1s").code == 0
    listed = keys("list", "--file", str(keys.path))
    assert [line.split()[:2] for line in listed.out.splitlines()] == [
        ["NAME", "SCOPE"],
        ["old", "admin"],
        ["workers", "agent:worker-*"],
    ]
    assert "0" * 64 not in listed.out
    shown = json.loads(keys("list", "--file", str(keys.path), "--json").out)
    assert [key["name"] for key in shown] == ["old", "workers"]
    assert shown[0] == {"name": "old", "scope": "admin", "expires": None}
    assert "# by hand" in keys.path.read_text()


def test_the_file_may_be_named_by_the_environment(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "OPSCORE_API_KEYS_FILE" in keys("list").err
    monkeypatch.setenv("OPSCORE_API_KEYS_FILE", str(keys.path))
    assert keys("add", "a", "--scope", "admin").code == 0
    assert "admin" in keys("list").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "--scope", "write"), "--scope 'write' is no scope"),
        (("a", "--scope", "agent:"), "agent:NAME"),
        (("a", "--scope", "read", "--expires", "soon"), "--expires 'soon'"),
        (("a", "--scope", "read", "--expires", "0d"), "--expires '0d'"),
        (("a\nb", "--scope", "read"), "keys.0.name"),
    ],
)
def test_what_cannot_be_is_named_and_nothing_is_written(
    keys: Keys, arguments: tuple[str, ...], said: str
) -> None:
    done = keys.add(*arguments)
    assert done.code == 2
    assert said in done.err
    assert not keys.path.exists()


def test_a_file_that_is_broken_is_left_as_it_is(keys: Keys) -> None:
    keys.path.write_text("[[keys]")
    done = keys.add("a", "--scope", "read")
    assert (done.code, keys.path.read_text()) == (2, "[[keys]")
    assert "not TOML" in done.err


def test_a_scope_that_is_no_text_is_named_and_nothing_is_written(keys: Keys) -> None:
    added = keys.add("a", "--scope", "agent:\udc80")
    assert (added.code, added.out, added.err.count("\n")) == (2, "", 1)
    assert not keys.path.exists() or keys.path.read_text() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of the system")
def test_a_disk_without_room_for_an_entry_leaves_the_file_as_it_was(keys: Keys) -> None:
    import resource  # not on Windows

    assert keys.add("first", "--scope", "read").code == 0
    before = keys.path.read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        added = keys.add("second", "--scope", "read")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (added.code, added.out) == (2, "")
    assert "No space left" in added.err
    assert keys.path.read_text() == before


def test_a_server_takes_a_key_that_is_added_while_it_runs(keys: Keys, tmp_path: Path) -> None:
    first = keys.add("first", "--scope", "admin").out.strip()
    with running_opscore(tmp_path, OPSCORE_API_KEYS_FILE=str(keys.path)) as server:
        path = f"{server.url}/v1/opscore/agents"

        def status(token: str) -> int:
            return httpx.get(path, headers={"Authorization": f"Bearer {token}"}).status_code

        assert status(first) == 200
        second = keys.add("second", "--scope", "read").out.strip()
        wait_until(lambda: status(second) == 200)
        assert first not in server.log()
        assert second not in server.log()
