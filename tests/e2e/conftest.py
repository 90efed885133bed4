"""Ops-Core as a process, and what it knows of the agent of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import AgentQuery, HistoryQuery, Order, Transition
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import wait_until

KEY = "e2e-k3y"


class Seen:
    """What Ops-Core knows of the agent by a name."""

    def __init__(self, client: OpsCoreClient, name: str) -> None:
        self.client = client
        self.name = name

    @property
    def agent_id(self) -> str:
        """Its id; empty while it is not known."""
        agents = self.client.list_agents(AgentQuery(name=self.name)).items
        return agents[0].agent_id if agents else ""

    @property
    def history(self) -> list[Transition]:
        agent_id = self.agent_id
        query = HistoryQuery(order=Order.ASC, limit=1000)
        return self.client.history(agent_id, query).items if agent_id else []

    @property
    def states(self) -> list[str]:
        return [transition.state for transition in self.history]

    @property
    def state(self) -> str:
        """The state that Ops-Core shows."""
        return self.client.get_agent_state(self.agent_id).state

    def wait_for(self, *states: str) -> list[Transition]:
        """Wait until exactly these states were reported."""
        wait_until(lambda: len(self.states) >= len(states), message=f"{states}")
        history = self.history
        assert [transition.state for transition in history] == list(states)
        return history


@pytest.fixture(scope="package")
def opscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpsCoreProcess]:
    """Run one Ops-Core for all tests; each has an agent of its own."""
    with running_opscore(tmp_path_factory.mktemp("opscore"), KEY) as process:
        yield process


@pytest.fixture
def seen(opscore: OpsCoreProcess, request: pytest.FixtureRequest) -> Iterator[Seen]:
    """Return what Ops-Core knows of this test's agent."""
    with OpsCoreClient(opscore.url, KEY) as client:
        yield Seen(client, request.node.name)


@pytest.fixture
def env(opscore: OpsCoreProcess, seen: Seen) -> dict[str, str]:
    """Return what makes this test's agent report."""
    return {
        "OPSCORE_API_URL": f"{opscore.url}/v1",
        "OPSCORE_API_KEY": KEY,
        "OPSCORE_AGENT_NAME": seen.name,
    }
