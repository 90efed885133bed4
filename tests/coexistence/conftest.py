"""An Ops-Core on a real socket that is nobody's client, so that what is seen is the agent's."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.agent.conftest import (  # noqa: F401 - fixtures for every test of this room
    _no_reporter_outlives_its_test,
    _no_settings_of_the_machine,
)
from tests.agent.test_process import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Return an Ops-Core that accepts everything, over a real socket."""
    sink = Sink()
    thread = threading.Thread(target=sink.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield sink
    sink.server.shutdown()
    sink.server.server_close()
    thread.join()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run tests of the `anyio` plugin on both libraries."""
    return str(request.param)
