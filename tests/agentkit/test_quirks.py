"""The faults of the simulated AgentKit, each switched on and off while it runs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from opscore_middleware.agentkit import AsyncAgentKit, Message, read_webhook
from opscore_middleware.core.models import Registration
from opscore_middleware.errors import (
    AgentNameTaken,
    InvalidSignature,
    RemoteError,
    RemoteUnavailable,
)
from opscore_middleware.testing import Quirks, SimulatedAgentKit
from tests.agentkit.support import AGENT, NOW, SECRET, Receiver, registered
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("unset", ["webhook_url", "secret"])
async def test_without_an_address_or_a_secret_nobody_is_told(
    kit: SimulatedAgentKit, http: httpx.AsyncClient, unset: str
) -> None:
    before = getattr(kit, unset)
    setattr(kit, unset, None)
    await registered(http)
    await told_only_of(http, kit, unset, before)


async def told_only_of(
    http: httpx.AsyncClient, kit: SimulatedAgentKit, restored: str, value: Any
) -> None:
    """Register another agent under `restored`, and see that its webhook is the only one."""
    setattr(kit, restored, value)
    await registered(http, agentName="told", metadata=None)
    (sent,) = await kit.webhooks_sent()
    assert sent.json()["agent_details"]["agentName"] == "told"


async def test_a_lost_webhook_is_never_sent(
    kit: SimulatedAgentKit, http: httpx.AsyncClient
) -> None:
    kit.quirks = Quirks(webhook_lost=True)
    await registered(http)
    await told_only_of(http, kit, "quirks", Quirks())


async def test_an_agent_with_metadata_is_not_told_by_some_versions(
    kit: SimulatedAgentKit, http: httpx.AsyncClient
) -> None:
    kit.quirks = Quirks(no_webhook_with_metadata=True, empty_metadata_without_time=True)
    await registered(http, agentName="silent", metadata={"description": "d"})
    agent_id = await registered(http)
    (sent,) = await kit.webhooks_sent()
    assert sent.json() == {
        "event_type": "REGISTER",
        "agent_details": {**AGENT, "agentId": agent_id, "metadata": {}},
    }
    read = read_webhook(sent.body, sent.headers, secrets=[SECRET], now=NOW)
    assert read.agent.registration_time is None


async def test_a_wrong_signature_does_not_verify(
    kit: SimulatedAgentKit, http: httpx.AsyncClient
) -> None:
    kit.quirks = Quirks(wrong_signature=True)
    await registered(http)
    (sent,) = await kit.webhooks_sent()
    with pytest.raises(InvalidSignature):
        read_webhook(sent.body, sent.headers, secrets=[SECRET], now=NOW)


async def test_a_webhook_may_come_late(
    kit: SimulatedAgentKit, http: httpx.AsyncClient, receiver: Receiver
) -> None:
    kit.quirks = Quirks(webhook_delay=0.05)
    await registered(http)
    assert receiver.arrivals == []
    await kit.webhooks_sent()
    assert len(receiver.arrivals) == 1


async def test_messages_may_be_accepted_and_never_forwarded(
    kit: SimulatedAgentKit, agentkit: AsyncAgentKit, registration: Registration
) -> None:
    agent_id = await agentkit.register(registration)
    kit.quirks = Quirks(accepts_and_never_forwards=True)
    await agentkit.run(agent_id, Message(task_name="swallowed"))
    kit.quirks = Quirks()
    await agentkit.run(agent_id, Message(task_name="forwarded"))
    (sent,) = await kit.forwards_made()
    assert sent.json()["task_name"] == "forwarded"
    assert [message.body["task_name"] for message in kit.messages] == ["swallowed", "forwarded"]


async def test_a_restart_forgets_every_agent_and_what_was_to_be_sent(
    kit: SimulatedAgentKit, agentkit: AsyncAgentKit, registration: Registration
) -> None:
    kit.quirks = Quirks(webhook_delay=0.05)
    first = await agentkit.register(registration)
    kit.restart()
    assert kit.agents == {}
    second = await agentkit.register(registration)
    assert second != first
    (sent,) = await kit.webhooks_sent()
    assert sent.json()["agent_details"]["agentId"] == second


async def test_a_registry_on_disk_outlives_a_restart(
    kit: SimulatedAgentKit, agentkit: AsyncAgentKit, registration: Registration
) -> None:
    kit.quirks = Quirks(forgets_on_restart=False)
    agent_id = await agentkit.register(registration)
    kit.restart()
    with pytest.raises(AgentNameTaken):
        await agentkit.register(registration)
    assert kit.agents[agent_id].agent_name == registration.agent_name


async def test_one_that_is_down_cannot_be_reached_until_it_is_up(
    kit: SimulatedAgentKit, agentkit: AsyncAgentKit
) -> None:
    kit.quirks = Quirks(down=True)
    with pytest.raises(RemoteUnavailable, match="ConnectError"):
        await agentkit.ping()
    kit.quirks = Quirks()
    await agentkit.ping()


@pytest.mark.parametrize(("hang", "error"), [(15.0, "ReadTimeout"), (0.01, "RemoteProtocolError")])
async def test_one_that_hangs_is_given_up_or_hangs_up(
    kit: SimulatedAgentKit, agentkit: AsyncAgentKit, hang: float, error: str
) -> None:
    kit.quirks = Quirks(hang=hang)
    with pytest.raises(RemoteUnavailable, match=error):
        await agentkit.ping()


async def test_waiting_for_what_never_comes_ends_with_what_came(kit: SimulatedAgentKit) -> None:
    with pytest.raises(TimeoutError, match=r"in 0\.01 s: 0 webhooks and 0 forwards were made"):
        await kit.webhooks_sent(timeout=0.01)


async def test_closing_drops_what_was_to_be_sent(
    kit: SimulatedAgentKit, http: httpx.AsyncClient, receiver: Receiver
) -> None:
    kit.quirks = Quirks(webhook_delay=600)
    await registered(http)
    await kit.close()
    kit.quirks = Quirks()
    await registered(http, agentName="after")
    await wait_until_async(lambda: receiver.arrivals, message="the webhook after reopening")
    assert len(receiver.arrivals) == 1


async def test_a_proxy_before_one_that_is_down_says_503(kit: SimulatedAgentKit) -> None:
    kit.quirks = Quirks(down=True)
    transport = httpx.ASGITransport(kit)
    async with AsyncAgentKit("http://agentkit", transport=transport) as client:
        with pytest.raises(RemoteError) as refused:
            await client.ping()
    assert refused.value.remote_status == 503
