"""What every test of the agent half stands on: a clean environment, and no thread left behind."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from tests.agent.desk import Desk, Open
from tests.agent.support import ScriptedOpsCore
from tests.support.processes import clean_environment
from tests.support.waiting import wait_until


def reporters() -> list[threading.Thread]:
    """Return the reporter threads that run in this process."""
    return [thread for thread in threading.enumerate() if thread.name == "opscore-reporter"]


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="package")
def _what_other_rooms_have_left() -> None:
    """Keep it out of the collections below, each of which would look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_reporter_outlives_its_test() -> Iterator[None]:
    # Not those that a failed test has left: its traceback holds them, and has said enough.
    before = set(reporters())
    yield
    if not before.issuperset(reporters()):
        gc.collect()  # an app is a ring of references; its middleware goes with it
        wait_until(
            lambda: before.issuperset(reporters()),
            message="the reporter threads of this test to end",
        )


@pytest.fixture
def ops_core() -> ScriptedOpsCore:
    """Return an Ops-Core whose answers the test decides; it accepts until told otherwise."""
    return ScriptedOpsCore()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run tests of the `anyio` plugin on both libraries."""
    return str(request.param)


@pytest.fixture
def desk(ops_core: ScriptedOpsCore) -> Open:
    """Return what opens a desk with the settings given."""
    return lambda **settings: Desk(ops_core, **settings)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return the log, of every level."""
    caplog.set_level(logging.DEBUG)
    return caplog
