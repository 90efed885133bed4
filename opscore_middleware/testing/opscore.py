"""The real Ops-Core, for tests of agents: in this process, on SQLite in memory."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from opscore_middleware.client.synchronous import OpsCoreClient
from opscore_middleware.core.models import Agent, AgentQuery, HistoryQuery, Order, Transition
from opscore_middleware.errors import MissingExtra, OpsCoreError, RemoteError

__all__ = ["RunningOpsCore", "run_opscore"]

PATIENCE: Final = 5.0
"""Seconds to wait for something to happen, unless told otherwise."""
_GLANCE: Final = 0.005

T = TypeVar("T")


class RunningOpsCore:
    """An Ops-Core that is running, and what a test asks of it.

    An agent is named by its id or by its name. `url` and `api_key` are what an agent needs to
    report here, in this process or in another one; `client` asks whatever else there is to ask.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url
        self.api_key = api_key
        self.client = OpsCoreClient(url, api_key)

    def __repr__(self) -> str:
        return f"RunningOpsCore({self.url!r})"

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that make an agent report here."""
        return {"OPSCORE_API_URL": self.url, "OPSCORE_API_KEY": self.api_key}

    def agent(self, agent: str) -> Agent:
        """Return an agent as Ops-Core sees it. Raises `RemoteError` when it is not known."""
        try:
            return self.client.get_agent(agent)
        except RemoteError:
            found = self.client.list_agents(AgentQuery(name=agent)).items
            if not found:
                raise
            return found[-1]

    def transitions(self, agent: str) -> list[Transition]:
        """Return everything that an agent has reported, in the order of its arrival."""
        agent_id = self.agent(agent).agent_id
        return list(self.client.iter_history(agent_id, HistoryQuery(order=Order.ASC, limit=1000)))

    def states(self, agent: str) -> list[str]:
        """Return the states that an agent has reported, in the order of their arrival."""
        return [transition.state for transition in self.transitions(agent)]

    def wait_for(self, agent: str, state: str, *, timeout: float = PATIENCE) -> Agent:
        """Wait until an agent is in a state and return it.

        Raises `TimeoutError` after `timeout` seconds, with what the agent has reported instead.
        """
        return self._until(lambda: self._in_state(agent, state), agent, f"be {state!r}", timeout)

    def wait_for_states(
        self, agent: str, *states: str, timeout: float = PATIENCE
    ) -> list[Transition]:
        """Wait until an agent has reported exactly these states in this order.

        Raises `TimeoutError` after `timeout` seconds, with what the agent has reported instead.
        """
        return self._until(
            lambda: self._have_reported(agent, states), agent, f"report {list(states)}", timeout
        )

    def _in_state(self, agent: str, state: str) -> Agent | None:
        seen = self.agent(agent)
        return seen if seen.state == state else None

    def _have_reported(self, agent: str, states: tuple[str, ...]) -> list[Transition] | None:
        seen = self.transitions(agent)
        return seen if tuple(t.state for t in seen) == states else None

    def _until(self, look: Callable[[], T | None], agent: str, goal: str, timeout: float) -> T:
        until = time.monotonic() + timeout
        while True:
            try:
                found = look()
            except RemoteError as refusal:
                found, instead = None, refusal.message
            else:
                instead = f"it has reported {self.states(agent)}" if found is None else ""
            if found is not None:
                return found
            if time.monotonic() > until:
                raise TimeoutError(
                    f"Agent {agent!r} did not {goal} within {timeout:g} s: {instead}"
                )
            time.sleep(_GLANCE)


@contextmanager
def run_opscore() -> Iterator[RunningOpsCore]:
    """Run an Ops-Core of its own on a free loopback port until the block ends.

    It is the real app behind a real socket, in a thread with an event loop of its own, so that
    agents reach it from any loop, thread or process. Raises `MissingExtra` when the server's
    libraries are not installed.
    """
    uvicorn, make_server, create_app, settings = _server_parts()
    key = secrets.token_urlsafe(16)
    # Whatever the environment says, nobody is let in or registered who belongs to another one.
    alone = {"api_keys_file": None, "agentkit_api_url": None}
    given = settings.resolve(database_url="sqlite:///:memory:", api_key=key)
    app = create_app(given.model_copy(update=alone))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", ws="none")
    server = make_server(config, app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), name="opscore-testing")
        thread.start()
        try:
            _wait_for_start(server, thread)
            running = RunningOpsCore(f"http://127.0.0.1:{listener.getsockname()[1]}", key)
            try:
                yield running
            finally:
                running.client.close()
        finally:
            server.should_exit = True
            thread.join()


def _wait_for_start(server: Any, thread: threading.Thread) -> None:
    until = time.monotonic() + PATIENCE
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise OpsCoreError("Ops-Core did not start; its log says why.")
        time.sleep(_GLANCE)


def _server_parts() -> tuple[Any, Any, Any, Any]:
    try:
        import uvicorn

        from opscore_middleware.server import Settings, create_app
        from opscore_middleware.server.run import Server
    except ImportError as error:
        raise MissingExtra("opscore_middleware.testing.run_opscore", "server") from error
    return uvicorn, Server, create_app, Settings
