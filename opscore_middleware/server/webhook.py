"""AgentKit's webhook: held against the secrets, then done, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opscore_middleware.agentkit import EventKind, WebhookEvent, read_webhook
from opscore_middleware.core.clock import Clock
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.records import Once
from opscore_middleware.protocol.address import is_loopback
from opscore_middleware.server.logs import get_logger

__all__ = ["Webhook"]

log = get_logger(__name__)


class Webhook:
    """Takes what AgentKit tells of its agents.

    Args:
        opscore: the use cases.
        secrets: those in force. With any, every webhook must be signed with one of them; without,
            webhooks are taken from this machine alone.
        insecure: without a secret, take them from everywhere.
        clock: returns now, in microseconds since the Unix epoch.
    """

    def __init__(
        self, opscore: OpsCore, *, secrets: Sequence[str], insecure: bool, clock: Clock
    ) -> None:
        self._opscore = opscore
        self._secrets = tuple(secrets)
        self._insecure = insecure
        self._clock = clock

    @property
    def is_open(self) -> bool:
        """Whether anybody who reaches the server can register agents by it."""
        return self._insecure and not self._secrets

    async def take(self, body: bytes, headers: Mapping[str, str], peer: str | None) -> str:
        """Do what a webhook tells and return, in words, what was done.

        `body` is as it came, and `peer` is the address it came from. The same signature again
        does nothing. Raises as `read_webhook` does.
        """
        event = read_webhook(
            body,
            headers,
            secrets=self._secrets,
            now=self._clock(),
            insecure=self._insecure or (peer is not None and is_loopback(peer)),
        )
        done = await self._do(event)
        kind, agent_id = event.kind, event.agent.agent_id
        log.info("webhook_taken", kind=kind.value, agent_id=agent_id, signed=event.signed, new=done)
        if not done:
            return f"Nothing to do for {kind.value} of agent {agent_id!r}"
        return f"Agent {agent_id!r} {_DONE[kind]}"

    async def _do(self, event: WebhookEvent) -> bool:
        once = None
        if event.replay_key is not None and event.replay_until is not None:
            once = Once(f"webhook {event.replay_key}", event.replay_until)
        if event.kind is EventKind.DEREGISTER:
            return await self._opscore.deregister_once(event.agent.agent_id, once)
        return await self._opscore.register_once(event.agent.registration(), once)


_DONE = {EventKind.REGISTER: "registered", EventKind.DEREGISTER: "deregistered"}
