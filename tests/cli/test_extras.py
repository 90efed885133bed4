"""What is not installed is named, with the line that installs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.processes import clean_environment

SERVER = ("fastapi", "uvicorn", "structlog", "pydantic_settings")

HIDE = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
sys.argv[0] = "opscore"
from opscore_middleware.cli import main
main()
"""


def without(module: str | tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `opscore` where a module, or any of several, cannot be imported."""
    modules = (module,) if isinstance(module, str) else module
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(modules=modules), *arguments],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("module", ["typer", "rich", "yaml", "jmespath", "cronsim"])
def test_without_the_cli_extra_the_install_line_is_all_there_is(module: str) -> None:
    done = without(module, "agents", "list")
    assert done.returncode == 2
    assert done.stderr == (
        'opscore: opscore needs the cli extra: pip install "opscore-middleware[cli]"\n'
    )


@pytest.mark.parametrize("module", SERVER)
def test_without_the_server_extra_serve_says_what_to_install(module: str) -> None:
    done = without(module, "serve")
    assert done.returncode == 2
    assert done.stderr == (
        'opscore: opscore serve needs the server extra: pip install "opscore-middleware[server]"\n'
    )


def test_the_other_commands_do_without_the_server_extra() -> None:
    assert without(SERVER, "agents", "--help").returncode == 0


def test_without_the_postgres_extra_serve_says_what_to_install() -> None:
    done = without("asyncpg", "serve", "--database", "postgresql://user:s3cret@db/opscore")
    assert done.returncode == 2
    assert done.stderr == (
        "opscore: OPSCORE_DATABASE_URL: A PostgreSQL database needs the postgres extra: "
        'pip install "opscore-middleware[postgres]"\n'
    )
