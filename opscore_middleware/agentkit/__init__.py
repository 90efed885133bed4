"""AgentKit: its webhook, verified and parsed, and a typed client of its API."""

from opscore_middleware.agentkit.client import (
    AgentKit,
    AsyncAgentKit,
    list_agents,
    ping,
    register_agent,
    run_message,
)
from opscore_middleware.agentkit.models import AgentDetails, Message, RunAccepted
from opscore_middleware.agentkit.reconcile import missing
from opscore_middleware.agentkit.webhook import EventKind, WebhookEvent, read_webhook

__all__ = [
    "AgentDetails",
    "AgentKit",
    "AsyncAgentKit",
    "EventKind",
    "Message",
    "RunAccepted",
    "WebhookEvent",
    "list_agents",
    "missing",
    "ping",
    "read_webhook",
    "register_agent",
    "run_message",
]
