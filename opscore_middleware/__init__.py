"""One line in an agent's web app, and its life appears in Ops-Core."""

from opscore_middleware.agent.envelopes import Failure
from opscore_middleware.agent.hooks import StateChange
from opscore_middleware.agent.integrations.protocol import Integration, WorkUnit
from opscore_middleware.agent.middleware import OpsCoreMiddleware
from opscore_middleware.agent.track import track
from opscore_middleware.core.states import AgentState
from opscore_middleware.errors import ConfigurationError, OpsCoreError

__all__ = [
    "AgentState",
    "ConfigurationError",
    "Failure",
    "Integration",
    "OpsCoreError",
    "OpsCoreMiddleware",
    "StateChange",
    "WorkUnit",
    "__version__",
    "track",
]

__version__ = "0.1.0"
