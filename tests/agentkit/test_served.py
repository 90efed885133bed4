"""The simulated AgentKit behind a real server, watched from another thread."""

from __future__ import annotations

import pytest

from opscore_middleware.agentkit import AgentKit, Message
from opscore_middleware.core.models import Registration
from opscore_middleware.errors import AgentUnknownToAgentKit, RemoteError, RemoteUnavailable
from opscore_middleware.testing import Quirks, SimulatedAgentKit
from tests.agentkit.support import NOTIFY, SECRET, Receiver, served


def test_webhooks_and_forwards_are_seen_from_the_test_s_own_thread() -> None:
    receiver = Receiver()
    with served(receiver) as callback:
        kit = SimulatedAgentKit(webhook_url=callback + NOTIFY, secret=SECRET)
        with served(kit) as url, AgentKit(f"{url}/v1") as agentkit:
            agent_id = agentkit.register(
                Registration(agent_name="a", version="1", contact_endpoint=f"{callback}/task")
            )
            assert kit.wait(lambda: kit.webhooks)[0].status == 200
            agentkit.run(agent_id, Message(task_name="tn"))
            assert kit.wait(lambda: kit.forwarded)[0].status == 200
            with pytest.raises(TimeoutError):
                kit.wait(lambda: len(kit.webhooks) > 1, timeout=0.01)
            kit.restart()
            with pytest.raises(AgentUnknownToAgentKit):
                agentkit.run(agent_id, Message())
    assert [arrival.path for arrival in receiver.arrivals] == [NOTIFY, "/task"]


def test_its_faults_are_those_of_a_network() -> None:
    kit = SimulatedAgentKit()
    with served(kit) as url, AgentKit(url, timeout=2) as agentkit:
        kit.quirks = Quirks(hang=0.01)
        with pytest.raises(RemoteUnavailable, match="RemoteProtocolError"):
            agentkit.ping()
        kit.quirks = Quirks(down=True)
        with pytest.raises(RemoteError, match="503"):
            agentkit.ping()
        kit.quirks = Quirks()
        agentkit.ping()
    with AgentKit(url) as agentkit, pytest.raises(RemoteUnavailable, match="ConnectError"):
        agentkit.ping()


def test_it_can_be_served_again_after_it_was_stopped() -> None:
    receiver = Receiver()
    with served(receiver) as callback:
        kit = SimulatedAgentKit(webhook_url=callback + NOTIFY, secret=SECRET)
        for round_ in (1, 2):
            with served(kit) as url, AgentKit(url) as agentkit:
                agentkit.register(
                    Registration(
                        agent_name=f"a{round_}", version="1", contact_endpoint=f"{callback}/task"
                    )
                )
                kit.wait(lambda: len(kit.webhooks) == round_)  # noqa: B023 - called at once
    assert len(receiver.arrivals) == 2
