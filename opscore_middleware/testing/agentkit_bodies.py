"""The bodies that AgentKit takes, keeps and sends, in the order of its JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError
from pydantic.alias_generators import to_camel

__all__ = ["AgentInfo", "MessagePayload", "RegistrationPayload", "compact", "read_body"]

M = TypeVar("M", bound=BaseModel)
_CAMEL = ConfigDict(alias_generator=to_camel)


class Metadata(BaseModel):
    """What an agent may say of itself; anything else is dropped."""

    description: str | None = None
    config: dict[str, Any] | None = None


class RegistrationPayload(BaseModel):
    """The body of a registration."""

    model_config = _CAMEL

    agent_name: str
    capabilities: list[str] = Field(default_factory=list)
    version: str
    contact_endpoint: HttpUrl
    metadata: Metadata | None = None


class AgentInfo(BaseModel):
    """A registered agent."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    agent_id: str
    agent_name: str
    capabilities: list[str]
    version: str
    contact_endpoint: HttpUrl
    metadata: Metadata | None
    registration_time: datetime = Field(alias="registration_time")

    def details(self, *, empty_metadata_without_time: bool = False) -> dict[str, Any]:
        """Return the agent as webhooks and lists describe it, in either form in the field."""
        known = self.model_dump(mode="json", by_alias=True)
        if not empty_metadata_without_time:
            return known
        order = ("agentId", "agentName", "version", "capabilities", "contactEndpoint")
        return {name: known[name] for name in order} | {"metadata": known["metadata"] or {}}


class SessionContext(BaseModel):
    """What survives of a message's session context."""

    model_config = _CAMEL

    session_id: str | None = None
    prior_messages: list[str] | None = Field(default_factory=list)


class MessagePayload(BaseModel):
    """The body of a message; what is not named here is dropped before it is forwarded."""

    model_config = _CAMEL

    sender_id: str
    timestamp: datetime | None = None
    message_type: str
    payload: dict[str, Any]
    session_context: SessionContext | None = None
    task_name: str | None = Field(default=None, alias="task_name")
    opscore_session_id: str | None = Field(default=None, alias="opscore_session_id")
    opscore_task_id: str | None = Field(default=None, alias="opscore_task_id")


def compact(value: Any, *, ascii_only: bool) -> bytes:
    """Return JSON with the separators `,` and `:`, without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only).encode()


def read_body(model: type[M], body: bytes) -> M | list[dict[str, Any]]:
    """Parse a request's body, or return the `detail` of its 422."""
    if not body:
        return [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}]
    try:
        return model.model_validate(json.loads(body), from_attributes=True)
    except json.JSONDecodeError as error:
        return [
            {
                "type": "json_invalid",
                "loc": ["body", error.pos],
                "msg": "JSON decode error",
                "input": {},
                "ctx": {"error": error.msg},
            }
        ]
    except ValidationError as error:
        return [
            {**fault, "loc": ["body", *fault["loc"]]} for fault in error.errors(include_url=False)
        ]
