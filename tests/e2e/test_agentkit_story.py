"""An agent that registers with AgentKit, from its start to its work, and what can go wrong.

Ops-Core and the agent are processes; AgentKit is the simulated one, on a real socket.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from opscore_middleware.agentkit import AgentKit, Message
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Registration
from opscore_middleware.errors import RemoteError
from opscore_middleware.testing import Quirks, SimulatedAgentKit
from tests.agentkit.support import NOTIFY, served
from tests.e2e.conftest import KEY, Seen
from tests.e2e.gate import Gate
from tests.e2e.processes import AgentProcess, running_agent
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import wait_until

SECRET = "shared-with-agentkit"
Start = Callable[..., AbstractContextManager[AgentProcess]]


@pytest.fixture(scope="module")
def opscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpsCoreProcess]:
    """Run one Ops-Core that knows AgentKit's secret for all tests of this module."""
    directory = tmp_path_factory.mktemp("opscore")
    with running_opscore(directory, KEY, OPSCORE_WEBHOOK_SECRET=SECRET) as process:
        yield process


@pytest.fixture
def kit(opscore: OpsCoreProcess) -> SimulatedAgentKit:
    """Return an AgentKit that tells Ops-Core of its agents."""
    return SimulatedAgentKit(webhook_url=opscore.url + NOTIFY, secret=SECRET)


@pytest.fixture
def agentkit(kit: SimulatedAgentKit) -> Iterator[AgentKit]:
    with served(kit) as url, AgentKit(url) as client:
        yield client


@pytest.fixture
def start(agentkit: AgentKit, env: dict[str, str], tmp_path: Path) -> Start:
    """Return a function that runs this test's agent, registered by itself with AgentKit."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def run(**more: str) -> AbstractContextManager[AgentProcess]:
        settings = {
            **env,
            "AGENTKIT_API_URL": agentkit.url,
            "OPSCORE_CONTACT_ENDPOINT": f"http://127.0.0.1:{port}/job",
            **more,
        }
        return running_agent(tmp_path, "--port", str(port), **settings)

    return run


def registered_id(kit: SimulatedAgentKit) -> str:
    """Wait until the agent has registered with AgentKit; return the id that it was given."""
    return next(iter(kit.wait(lambda: dict(kit.agents))))


def told(opscore: OpsCoreProcess, agent_id: str) -> list[str]:
    """Return how Ops-Core was made to know an agent, by its log."""
    ways = {"webhook_taken", "agent_registered", "agent_reconciled"}
    events = [e for e in opscore.events() if e.get("agent_id") == agent_id]
    return [event["event"] for event in events if event["event"] in ways]


def test_registered_told_unknown_idle_active_idle(
    opscore: OpsCoreProcess, kit: SimulatedAgentKit, agentkit: AgentKit, start: Start, seen: Seen
) -> None:
    with ExitStack() as stack:
        gate = stack.enter_context(Gate(opscore.url))
        agent = stack.enter_context(start(OPSCORE_API_URL=gate.url))
        agent_id = registered_id(kit)
        assert kit.wait(lambda: kit.webhooks)[0].status == 200
        assert seen.client.get_agent_state(agent_id).state == "UNKNOWN"
        assert seen.client.get_agent(agent_id).agent_name == seen.name

        gate.open()
        seen.wait_for("initializing", "idle")
        agentkit.run(agent_id, Message(payload={"text": "hello"}))
        assert kit.wait(lambda: kit.forwarded)[0].status == 200
        seen.wait_for("initializing", "idle", "active", "idle")
        assert seen.client.get_agent_state(agent_id).state == "idle"
        agent.signal()
        agent.ends()
    assert seen.agent_id == agent_id
    seen.wait_for("initializing", "idle", "active", "idle", "draining", "finished")
    assert told(opscore, agent_id) == ["webhook_taken"]


def test_reports_before_the_webhook_wait_for_it_and_come_in_order(
    opscore: OpsCoreProcess, kit: SimulatedAgentKit, start: Start, seen: Seen
) -> None:
    kit.quirks = Quirks(webhook_delay=1.0)
    with start() as agent:
        agent_id = registered_id(kit)
        agent.http.post("/job")
        seen.wait_for("initializing", "idle", "active", "idle")
        assert seen.agent_id == agent_id
    refused = [e for e in opscore.events() if e.get("code") == "agent_not_found"]
    assert any(agent_id in event["path"] for event in refused)
    assert told(opscore, agent_id) == ["webhook_taken"]
    assert agent.lines == []


def test_when_the_webhook_is_lost_the_agent_makes_itself_known_under_the_same_id(
    opscore: OpsCoreProcess, kit: SimulatedAgentKit, start: Start, seen: Seen
) -> None:
    kit.quirks = Quirks(webhook_lost=True)
    with start():
        agent_id = registered_id(kit)
        wait_until(lambda: seen.agent_id == agent_id, timeout=15)
        seen.wait_for("initializing", "idle")
        assert told(opscore, agent_id) == ["agent_registered"]


def test_after_a_restart_the_agent_finds_its_old_id(
    opscore: OpsCoreProcess, kit: SimulatedAgentKit, start: Start, seen: Seen
) -> None:
    with start() as agent:
        agent_id = registered_id(kit)
        seen.wait_for("initializing", "idle")
        agent.signal()
        agent.ends()
    with start() as agent:
        history = seen.wait_for(
            *("initializing", "idle", "draining", "finished", "initializing", "idle")
        )
        assert (seen.agent_id, seen.state) == (agent_id, "idle")
    assert list(kit.agents) == [agent_id]
    assert len({transition.instance_id for transition in history}) == 2
    assert len(kit.webhooks) == 1
    assert told(opscore, agent_id) == ["webhook_taken"]


def test_a_wrong_key_is_said_once_and_changes_nothing_for_the_agent(
    kit: SimulatedAgentKit, start: Start, seen: Seen
) -> None:
    with start(OPSCORE_API_KEY="not-the-key") as agent:
        agent_id = registered_id(kit)
        kit.wait(lambda: kit.webhooks)
        line = wait_until(lambda: agent.lines)[0]
        assert agent.http.post("/job").status_code == 200
        assert "OPSCORE_API_KEY" in line
        assert "401" in line
        assert "not-the-key" not in agent.log
        assert seen.client.get_agent_state(agent_id).state == "UNKNOWN"
        assert len(agent.lines) == 1


def test_a_webhook_signed_with_another_secret_is_refused(
    opscore: OpsCoreProcess, kit: SimulatedAgentKit, agentkit: AgentKit, seen: Seen
) -> None:
    kit.quirks = Quirks(wrong_signature=True)
    agent_id = agentkit.register(
        Registration(agent_name=seen.name, version="1", contact_endpoint="http://127.0.0.1:9/")
    )
    assert kit.wait(lambda: kit.webhooks)[0].status == 401
    assert seen.agent_id == ""
    assert told(opscore, agent_id) == []
    assert SECRET not in opscore.log()


def test_who_polls_a_stale_id_is_told_the_id_the_nearest_agents_and_what_lists_them(
    opscore: OpsCoreProcess, kit: SimulatedAgentKit, start: Start, seen: Seen
) -> None:
    with start():
        agent_id = registered_id(kit)
        seen.wait_for("initializing", "idle")
        stale = f"{agent_id[:-4]}dead"
        answer = httpx.get(
            f"{opscore.url}/v1/opscore/agent/{stale}/state", headers=opscore.headers()
        )
        body: dict[str, Any] = answer.json()
        assert (answer.status_code, body["code"]) == (404, "agent_not_found")
        assert body["nearest"][0] == {"agentId": agent_id, "agentName": seen.name}
        with OpsCoreClient(opscore.url, KEY) as client, pytest.raises(RemoteError) as raised:
            client.get_agent_state(stale)
        for words in (stale, agent_id, seen.name, "`opscore agents list`"):
            assert words in body["detail"]
            assert words in raised.value.message
