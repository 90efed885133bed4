"""Where AgentKit tells of the agents that are registered with it."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import APIRouter, Request

from opscore_middleware.core.models import Wire
from opscore_middleware.server.errors import responses
from opscore_middleware.server.webhook import Webhook

__all__ = ["WebhookTaken", "router"]

router = APIRouter(tags=["agentkit"])

# What is read of it; AgentKit may send more.
_TEXT: Final = {"type": "string"}
_BODY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["event_type", "agent_details"],
    "properties": {
        "event_type": {"type": "string", "examples": ["REGISTER", "DEREGISTER"]},
        "agent_details": {
            "type": "object",
            "required": ["agentId"],
            "properties": {
                "agentId": _TEXT,
                "agentName": _TEXT,
                "capabilities": {"type": ["array", "null"], "items": _TEXT},
                "version": {"type": ["string", "null"]},
                "contactEndpoint": {"type": ["string", "null"]},
                "metadata": {"type": ["object", "null"]},
                "registration_time": {"type": ["string", "null"], "format": "date-time"},
            },
        },
    },
}


class WebhookTaken(Wire):
    """The answer to a webhook, also to a repeat."""

    status: Literal["success"] = "success"
    message: str


@router.post(
    "/v1/opscore/internal/agent/notify",
    responses=responses(400, 413, 422),
    openapi_extra={
        "security": [],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}},
    },
)
async def notify(request: Request) -> WebhookTaken:
    """Take AgentKit's webhook: an agent was registered there, or taken out.

    Signed with HMAC-SHA256 in `X-AgentKit-Signature` and `X-AgentKit-Timestamp`; no key.
    """
    webhook: Webhook = request.app.state.webhook
    peer = None if request.client is None else request.client.host
    return WebhookTaken(message=await webhook.take(await request.body(), request.headers, peer))
