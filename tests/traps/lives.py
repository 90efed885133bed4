"""What is done to an agent, and what Ops-Core is told of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final, Literal

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from opscore_middleware.core.models import Transition
from opscore_middleware.errors import RemoteError
from opscore_middleware.testing import RunningOpsCore
from tests.support.waiting import wait_until
from tests.traps.agent_app import create_app
from tests.traps.drivers import Connection, Driver, InProcess
from tests.traps.expected import CLIENTS, expected
from tests.traps.servers import ServerProcess, lifespans, serving

__all__ = ["REQUESTS", "Doing", "Trace", "Witness", "live_in_process", "live_under"]

Trace = list[str]
"""States as Ops-Core was told them, with what else was seen meanwhile in parentheses."""

PATIENCE: Final = 5.0
"""Seconds in which a report must come; its absence is noticed after them."""
LAST: Final = 0.5
"""The same once the process has ended: whatever it sent is on its way or here."""
ANSWERED: Final = 2.0
"""The same for the answer to a request that goes on behind it."""
ENDED: Final = 5.0
"""The same for the end of a process that was asked twice."""


class Witness:
    """Sees what Ops-Core is told of one agent, a piece at a time."""

    def __init__(self, opscore: RunningOpsCore, agent: str) -> None:
        self.opscore = opscore
        self.agent = agent
        self._seen = 0

    @property
    def history(self) -> list[Transition]:
        try:
            return self.opscore.transitions(self.agent)
        except RemoteError:
            return []

    def sees(self, reports: int, patience: float = PATIENCE) -> Trace:
        """Wait for so many more reports; return those that came, be they fewer or more."""
        wanted = self._seen + reports
        try:
            wait_until(lambda: len(self.history) >= wanted, timeout=patience)
        except AssertionError:
            pass  # the trace shows it
        states = [str(transition.state) for transition in self.history[self._seen :]]
        self._seen += len(states)
        return states


class Doing:
    """Does something that takes long in a thread, so that it can be looked at meanwhile."""

    def __init__(self, action: Callable[[str], int], path: str) -> None:
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(action, path), daemon=True)
        self._thread.start()

    def _run(self, action: Callable[[str], int], path: str) -> None:
        action(path)
        self._answered.set()

    def answered(self) -> Trace:
        return ["(answered)"] if self._answered.wait(ANSWERED) else ["(not answered)"]

    def ends(self) -> None:
        self._thread.join()


def _posting(path: str, reports: int) -> Callable[[Driver, Witness], Trace]:
    def scenario(driver: Driver, witness: Witness) -> Trace:
        driver.post(path)
        return witness.sees(reports)

    return scenario


def _leaving(method: str, path: str, reports: int) -> Callable[[Driver, Witness], Trace]:
    def scenario(driver: Driver, witness: Witness) -> Trace:
        driver.leave(method, path)
        return witness.sees(reports)

    return scenario


def _probing(driver: Driver, witness: Witness) -> Trace:
    for _ in range(20):
        driver.get("/health")
    return witness.sees(0)


def _background(driver: Driver, witness: Witness) -> Trace:
    doing = Doing(driver.post, "/background")
    trace = witness.sees(1) + doing.answered()
    driver.get("/release")
    doing.ends()
    return trace + witness.sees(1)


def _chat(driver: Driver, witness: Witness) -> Trace:
    driver.chat(2)
    return witness.sees(4)


REQUESTS: Final[dict[str, Callable[[Driver, Witness], Trace]]] = {
    "POST": _posting("/job", 2),
    "POST that raises": _posting("/fail", 3),
    "HTTPException(503)": _posting("/refuse", 3),
    "status 503": _posting("/unavailable", 3),
    "streaming": _posting("/stream", 2),
    "streaming that raises": _posting("/torn", 3),
    "health probes": _probing,
    "listener of events": _leaving("GET", "/events", 0),
    "client gone in mid-stream": _leaving("POST", "/events", 2),
    "background task": _background,
    "background task that raises": _posting("/failing_background", 3),
    "websocket with two messages": _chat,
    "POST at the end": _posting("/job", 2),  # what came late from others shows here
}


def live_under(server: str, opscore: RunningOpsCore) -> dict[str, Trace]:
    """Go through all scenarios under a server; return the trace of each."""
    traces: dict[str, Trace] = {}
    witness, env = _agent(f"{server} rolls", opscore)
    with serving(server, **env) as old:
        traces["start"] = witness.sees(2 if lifespans(server) else 1)
        connection = Connection(old.url)
        for name, scenario in REQUESTS.items():
            traces[name] = scenario(connection, witness)
        connection.close()
        with serving(server, **env) as new:
            witness.sees(2 if lifespans(server) else 1)
            old.terminate()
            old.ends()
            traces["SIGTERM"] = witness.sees(2, LAST)
            traces["rolling restart"] = [f"(agent {opscore.agent(witness.agent).state})"]
            traces["SIGTERM with a stream open"] = _terminated_in_stream(new, witness)
    witness, env = _agent(f"{server} interrupted", opscore)
    with serving(server, **env) as process:
        witness.sees(2 if lifespans(server) else 1)
        traces["two SIGINTs"] = _interrupted_twice(process, witness)
    witness, env = _agent(f"{server} fails to start", opscore)
    with ServerProcess(server, FAIL_TO_START="1", **env) as process:
        if lifespans(server):
            process.ends()
            traces["startup failure"] = witness.sees(2, LAST)
        else:
            process.serves()
            traces["startup failure"] = witness.sees(1)
    return traces


def live_in_process(runner: str, opscore: RunningOpsCore) -> dict[str, Trace]:
    """Do the same through Starlette's test client, as far as it goes."""
    backend, lifespan = CLIENTS[runner]
    witness = Witness(opscore, runner)
    app = create_app(
        api_url=opscore.url, api_key=opscore.api_key, agent_name=runner, error_hold=0.05
    )
    traces: dict[str, Trace] = {}
    with ExitStack() as stack:
        client = TestClient(app, backend=backend, raise_server_exceptions=False)
        if lifespan:
            stack.enter_context(client)
        driver = InProcess(client)
        driver.get("/health")
        traces["start"] = witness.sees(2 if lifespan else 1)
        for name, scenario in REQUESTS.items():
            if expected(runner, name) is not None:
                traces[name] = scenario(driver, witness)
    traces["stop"] = witness.sees(2 if lifespan else 0, LAST)
    if lifespan:
        traces["startup failure"] = _cannot_start(app, backend, witness)
    return traces


def _cannot_start(app: Starlette, backend: Literal["asyncio", "trio"], witness: Witness) -> Trace:
    app.state.fails_to_start = True  # not the environment, which servers are started with meanwhile
    with pytest.raises(LookupError), TestClient(app, backend=backend):
        pass
    return witness.sees(2)


def _agent(name: str, opscore: RunningOpsCore) -> tuple[Witness, dict[str, str]]:
    env = {"OPSCORE_AGENT_NAME": name, "OPSCORE_ERROR_HOLD": "0.05"}
    return Witness(opscore, name), env | opscore.environ


def _terminated_in_stream(process: ServerProcess, witness: Witness) -> Trace:
    connection = Connection(process.url)
    with connection.http.stream("GET", "/events") as response:
        events = response.iter_lines()
        next(events)
        process.terminate()
        trace = witness.sees(1)
        told = witness.history[-1].received_at.timestamp()
        # An event that was sent after the report came shows that nobody had to leave for it.
        goes_on = any(float(e.removeprefix("data: ")) > told for e in _until_cut(events) if e)
    connection.close()
    process.ends()
    trace += witness.sees(2 - len(trace), LAST)
    return [*trace[:1], "(stream goes on)", *trace[1:]] if goes_on else ["(stream cut)", *trace]


def _until_cut(events: Iterator[str]) -> Iterator[str]:
    try:
        yield from events
    except httpx.TransportError:
        return


def _interrupted_twice(process: ServerProcess, witness: Witness) -> Trace:
    connection = Connection(process.url)
    held = Doing(connection.post, "/hold")
    trace = witness.sees(1)
    process.interrupt()
    trace += witness.sees(1)
    process.interrupt()
    ended = process.ends(ENDED) is not None
    trace += witness.sees(2 if trace[-1] == "idle" else 1, LAST)
    if not ended:
        trace.append("(goes on)")
        process.kill()
    held.ends()
    connection.close()
    return trace
