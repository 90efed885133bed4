"""Where AgentKit tells of the agents that are registered with it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request

from opscore_middleware.core.models import Wire
from opscore_middleware.server.errors import responses
from opscore_middleware.server.webhook import Webhook

__all__ = ["WebhookTaken", "router"]

router = APIRouter(tags=["agentkit"])


class WebhookTaken(Wire):
    """The answer to a webhook, also to a repeat."""

    status: Literal["success"] = "success"
    message: str


@router.post(
    "/v1/opscore/internal/agent/notify",
    responses=responses(400, 413, 422),
    openapi_extra={"security": []},
)
async def notify(request: Request) -> WebhookTaken:
    """Take AgentKit's webhook: an agent was registered there, or taken out.

    Signed with HMAC-SHA256 in `X-AgentKit-Signature` and `X-AgentKit-Timestamp`; no key.
    """
    webhook: Webhook = request.app.state.webhook
    peer = None if request.client is None else request.client.host
    return WebhookTaken(message=await webhook.take(await request.body(), request.headers, peer))
