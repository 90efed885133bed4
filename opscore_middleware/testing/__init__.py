"""What tests of agents and of Ops-Core need: the neighbours, in process."""

from opscore_middleware.testing.agentkit import Quirks, ReceivedMessage, SimulatedAgentKit
from opscore_middleware.testing.agentkit_bodies import AgentInfo
from opscore_middleware.testing.agentkit_delivery import Sent

__all__ = ["AgentInfo", "Quirks", "ReceivedMessage", "Sent", "SimulatedAgentKit"]
