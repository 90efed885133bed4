"""One line in an agent's web app, and its life appears in Ops-Core."""

from typing import TYPE_CHECKING, Any

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.hooks import StateChange
from opscore_middleware.agent.integrations.protocol import Integration, WorkUnit
from opscore_middleware.agent.middleware import OpsCoreMiddleware
from opscore_middleware.agent.track import track
from opscore_middleware.core.states import AgentState
from opscore_middleware.errors import ConfigurationError, OpsCoreError

if TYPE_CHECKING:
    from opscore_middleware.agent.tasks.context import TaskContext
    from opscore_middleware.agent.tasks.router import TaskRouter

__all__ = [
    "AgentState",
    "ConfigurationError",
    "Failure",
    "Integration",
    "OpsCoreError",
    "OpsCoreMiddleware",
    "StateChange",
    "TaskContext",
    "TaskRouter",
    "WorkUnit",
    "__version__",
    "track",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what only agents with handlers for tasks need, as it is first asked for."""
    if name == "TaskRouter":
        from opscore_middleware.agent.tasks.router import TaskRouter

        return TaskRouter
    if name == "TaskContext":
        from opscore_middleware.agent.tasks.context import TaskContext

        return TaskContext
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
