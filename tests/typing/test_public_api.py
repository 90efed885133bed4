"""The public surface: exactly these names, and exactly these types."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import opscore_middleware
from tests.docs.pages import ROOT

NAMES = {
    "opscore_middleware": {
        "AgentState",
        "ConfigurationError",
        "Failure",
        "Integration",
        "OpsCoreError",
        "OpsCoreMiddleware",
        "StateChange",
        "TaskContext",
        "TaskRouter",
        "WorkUnit",
        "__version__",
        "track",
    },
    "opscore_middleware.client": {"AsyncOpsCoreClient", "OpsCoreClient"},
    "opscore_middleware.testing": {
        "AgentInfo",
        "Quirks",
        "ReceivedMessage",
        "RunningOpsCore",
        "Sent",
        "SimulatedAgentKit",
        "run_opscore",
    },
}


@pytest.mark.parametrize("module", NAMES)
def test_the_public_names_are_these_and_each_is_there(module: str) -> None:
    imported = importlib.import_module(module)
    assert set(imported.__all__) == NAMES[module]
    assert [name for name in imported.__all__ if not hasattr(imported, name)] == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(opscore_middleware.__file__).parent / "py.typed").is_file()


@pytest.mark.timeout(300)
def test_users_get_the_types_that_are_promised() -> None:
    checked = Path(__file__).with_name("public_api.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(checked)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
