"""Servers are run once each, some at a time, and asked about many times."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from opscore_middleware.testing import RunningOpsCore, run_opscore
from tests.support.waiting import wait_until
from tests.traps.expected import CLIENTS
from tests.traps.lives import Trace, live_in_process, live_under
from tests.traps.servers import SERVERS


@pytest.fixture(scope="package")
def shared_opscore() -> Iterator[RunningOpsCore]:
    """Run one Ops-Core for all servers; each agent has a name of its own."""
    with run_opscore() as running:
        yield running


@pytest.fixture(scope="package")
def trace_under(
    shared_opscore: RunningOpsCore, request: pytest.FixtureRequest
) -> Iterator[Callable[[str, str], Trace]]:
    """Return what gives the trace of a scenario under a server or client."""
    before = set(_reporters())
    chosen = {
        item.callspec.params.get("runner")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    # Servers mostly wait; three at a time keep two processors busy.
    with ThreadPoolExecutor(3) as pool:
        lives: dict[str, Future[dict[str, Trace]]] = {
            server: pool.submit(live_under, server, shared_opscore)
            for server in SERVERS
            if server in chosen
        }
        for client in CLIENTS:
            if client in chosen:
                lives[client] = pool.submit(live_in_process, client, shared_opscore)
        yield lambda runner, scenario: lives[runner].result()[scenario]
        for life in lives.values():
            life.cancel()
    # An app is a ring of references; the reporter goes with it, while it can still say goodbye.
    gc.collect()
    wait_until(lambda: set(_reporters()) <= before, message="the reporter threads to end")


def _reporters() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "opscore-reporter"]
