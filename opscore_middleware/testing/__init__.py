"""What tests of agents and of Ops-Core need: the neighbours, in process."""

from opscore_middleware.testing.agentkit import Quirks, ReceivedMessage, SimulatedAgentKit
from opscore_middleware.testing.agentkit_bodies import AgentInfo
from opscore_middleware.testing.agentkit_delivery import Sent
from opscore_middleware.testing.opscore import RunningOpsCore, run_opscore

__all__ = [
    "AgentInfo",
    "Quirks",
    "ReceivedMessage",
    "RunningOpsCore",
    "Sent",
    "SimulatedAgentKit",
    "run_opscore",
]
