"""What every AgentKit does, simulated or real, told through the client: one story for both."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pytest

from opscore_middleware.agentkit import AgentKit, Message, WebhookEvent, missing, read_webhook
from opscore_middleware.core.clock import system_clock
from opscore_middleware.core.models import Registration
from opscore_middleware.errors import AgentNameTaken, AgentUnknownToAgentKit
from tests.agentkit.support import NOTIFY, Arrival, Receiver
from tests.support.waiting import wait_until

__all__ = ["Story"]


@dataclass(frozen=True)
class Story:
    """An AgentKit, and who it calls back: `receiver`, reached at `callback`."""

    agentkit: AgentKit
    receiver: Receiver
    callback: str
    secret: str

    def new_agent(self) -> Registration:
        """Return an agent whose name no AgentKit has heard yet."""
        return Registration(
            agent_name=f"story-{uuid.uuid4().hex[:12]}",
            version="1.0",
            capabilities=["echo"],
            contact_endpoint=f"{self.callback}/task/{uuid.uuid4().hex}",
        )

    def webhook_about(self, agent_id: str) -> WebhookEvent:
        """Wait for the webhook about an agent, and read it as Ops-Core does."""

        def read(arrival: Arrival) -> WebhookEvent:
            return read_webhook(
                arrival.body, arrival.headers, secrets=["next", self.secret], now=system_clock()
            )

        def about() -> list[WebhookEvent]:
            events = [read(arrival) for arrival in list(self.receiver.at(NOTIFY))]
            return [event for event in events if event.agent.agent_id == agent_id]

        return wait_until(about, message="the webhook")[0]

    def registered_agents_are_told(self) -> None:
        agent = self.new_agent()
        agent_id = self.agentkit.register(agent)
        assert uuid.UUID(agent_id).version == 4
        event = self.webhook_about(agent_id)
        assert event.signed
        told = event.agent.registration()
        assert told.model_copy(update={"agent_id": None, "metadata": None}) == agent

    def a_name_is_given_once(self) -> None:
        agent = self.new_agent()
        self.agentkit.register(agent)
        with pytest.raises(AgentNameTaken):
            self.agentkit.register(agent)

    def an_accepted_message_comes_or_never_does(self, *, timeout: float) -> Arrival | None:
        """Send a message and return its arrival, or None where it is never forwarded."""
        agent = self.new_agent()
        assert agent.contact_endpoint is not None
        path = agent.contact_endpoint.removeprefix(self.callback)
        agent_id = self.agentkit.register(agent)
        message = Message(
            payload={"p": 1},
            session_context={"sessionId": "sess-1", "taskId": "lost"},
            task_name="tn",
            opscore_session_id="os-1",
            opscore_task_id="ot-1.1",
        )
        accepted = self.agentkit.run(agent_id, message)
        assert accepted.data == {"agentId": agent_id, "dispatch_status": "scheduled"}
        try:
            return wait_until(lambda: self.receiver.at(path), timeout=timeout)[0]
        except AssertionError:
            return None

    def a_forwarded_message_keeps_what_correlates_it(self, arrival: Arrival) -> None:
        body = arrival.json()
        assert body.pop("timestamp")
        assert body == {
            "senderId": "opscore_system_id",
            "messageType": "workflow_task",
            "payload": {"p": 1},
            "sessionContext": {"sessionId": "sess-1", "priorMessages": []},
            "task_name": "tn",
            "opscore_session_id": "os-1",
            "opscore_task_id": "ot-1.1",
        }

    def strangers_are_unknown(self) -> None:
        with pytest.raises(AgentUnknownToAgentKit):
            self.agentkit.run(str(uuid.uuid4()), Message())

    def it_answers_and_lists_or_says_that_it_does_not(self) -> None:
        self.agentkit.ping()
        agent_id = self.agentkit.register(self.new_agent())
        listed = self.agentkit.agents()
        if listed is not None:
            assert agent_id in {found.agent_id for found in missing(listed, known=())}
