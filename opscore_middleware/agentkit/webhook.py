"""AgentKit's webhook: verified and parsed by one pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from opscore_middleware.agentkit.models import AgentDetails, faults
from opscore_middleware.errors import InvalidEventType, ValidationFailed
from opscore_middleware.protocol.signing import TOLERANCE, verify

__all__ = ["EventKind", "WebhookEvent", "read_webhook"]


class EventKind(StrEnum):
    """What a webhook tells of."""

    REGISTER = "REGISTER"
    DEREGISTER = "DEREGISTER"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One webhook of AgentKit's.

    `replay_key` is its signature: the same one again, before `replay_until` (microseconds since
    the epoch), is a repeat that must have no second effect; afterwards it is refused as stale.
    Both are None where no secret is configured, and `signed` is then false. `extra` holds the
    fields beside `event_type` and `agent_details`.
    """

    kind: EventKind
    agent: AgentDetails
    signed: bool
    replay_key: str | None
    replay_until: int | None
    extra: Mapping[str, Any]


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="allow")

    event_type: str
    agent_details: dict[str, Any]


def read_webhook(
    body: bytes,
    headers: Mapping[str, str],
    *,
    secrets: Sequence[str],
    now: int,
    insecure: bool = False,
) -> WebhookEvent:
    """Verify a webhook's raw bytes, then read it.

    Args:
        body: the request's body, untouched.
        headers: the request's headers; their case does not matter.
        secrets: those in force, several while they are rotated. With any, every webhook must be
            signed, whatever `insecure` says.
        now: microseconds since the Unix epoch.
        insecure: take webhooks unsigned where there is no secret.

    Raises `WebhookSecretRequired`, `MissingSignature`, `InvalidSignature` or `StaleSignature`
    (401), `InvalidEventType` (400) or `ValidationFailed` with every fault (422).
    """
    unsigned = insecure and not any(secret.strip() for secret in secrets)
    signature = None if unsigned else verify(body, headers, secrets=secrets, now=now)
    envelope = _envelope(body)
    kind = _kind(envelope.event_type)
    return WebhookEvent(
        kind=kind,
        agent=_agent(envelope.agent_details, kind),
        signed=signature is not None,
        replay_key=None if signature is None else signature.value,
        replay_until=None if signature is None else signature.signed_at + TOLERANCE,
        extra=envelope.model_extra or {},
    )


def _envelope(body: bytes) -> _Envelope:
    try:
        return _Envelope.model_validate_json(body)
    except ValidationError as error:
        raise ValidationFailed(faults(error, "body")) from None


def _kind(event_type: str) -> EventKind:
    try:
        return EventKind(event_type.strip().upper())
    except ValueError:
        allowed = [kind.value for kind in EventKind]
        raise InvalidEventType(
            f"event_type {event_type!r} is not one that Ops-Core takes; use "
            f"{' or '.join(allowed)}.",
            event_type=event_type,
            allowed=allowed,
        ) from None


def _agent(details: dict[str, Any], kind: EventKind) -> AgentDetails:
    try:
        agent = AgentDetails.model_validate(details)
    except ValidationError as error:
        raise ValidationFailed(faults(error, "body", "agent_details")) from None
    if kind is EventKind.REGISTER:
        agent.registration()  # what cannot be registered is refused here, with its faults
    return agent
