"""AgentKit's own shapes, read leniently: its rules are not ours and may change without us."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from opscore_middleware.core.models import Name, Registration, Utc
from opscore_middleware.errors import ValidationFailed

__all__ = ["AgentDetails", "Message", "RunAccepted", "faults"]

_MOST_CAPABILITIES: Final = 200
_LONGEST_NAME: Final = 200
_LONGEST_VERSION: Final = 100
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
# An agent imports all of this and most use none of it: build each on first use.
_LATE: Final = ConfigDict(defer_build=True)
_CAPABILITY: Final = TypeAdapter(Name, config=_LATE)
_ENDPOINT: Final = TypeAdapter(
    Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://\S+$")], config=_LATE
)


class AgentDetails(BaseModel):
    """An agent as AgentKit describes it, in its webhook and in a newer AgentKit's list.

    Fields that are not known here are kept, in `model_extra`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="allow",
        defer_build=True,
    )

    agent_id: str
    # A deregistration names the agent by its id; `registration` asks for the name.
    agent_name: str = ""
    capabilities: list[str] | None = None
    version: str | None = None
    contact_endpoint: str | None = None
    metadata: dict[str, Any] | None = None
    registration_time: Utc | None = Field(
        default=None,
        validation_alias=AliasChoices("registration_time", "registrationTime"),
        serialization_alias="registration_time",
    )

    def registration(self) -> Registration:
        """Return the agent as Ops-Core registers it.

        What only describes the agent is made to fit: control characters become spaces, a name or
        version that is too long is cut and ends in an ellipsis, and capabilities or an endpoint
        that nobody could ever use are left out. What identifies it is not: raises
        `ValidationFailed` for an id that cannot stand in a path, and for an empty name.
        """
        try:
            return Registration.model_validate(
                {
                    "agentId": self.agent_id,
                    "agentName": _fitted(self.agent_name, _LONGEST_NAME),
                    "version": _fitted(self.version or "", _LONGEST_VERSION),
                    "capabilities": self._usable_capabilities(),
                    "contactEndpoint": self._usable_endpoint(),
                    "metadata": self.metadata,
                }
            )
        except ValidationError as error:
            raise ValidationFailed(faults(error, "body", "agent_details")) from None

    def _usable_capabilities(self) -> list[str]:
        distinct = dict.fromkeys(self.capabilities or ())
        return [each for each in distinct if _passes(_CAPABILITY, each)][:_MOST_CAPABILITIES]

    def _usable_endpoint(self) -> str | None:
        return self.contact_endpoint if _passes(_ENDPOINT, self.contact_endpoint) else None


class Message(BaseModel):
    """A message for an agent, as AgentKit takes it and forwards it.

    AgentKit rebuilds what it forwards: of `session_context` only `sessionId` and `priorMessages`
    survive, so correlation rides on the last three fields, which are snake_case on the wire.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True, defer_build=True)

    sender_id: str = Field(default="opscore_system_id", serialization_alias="senderId")
    timestamp: Utc | None = None
    message_type: str = Field(default="workflow_task", serialization_alias="messageType")
    payload: dict[str, Any] = Field(default_factory=dict)
    session_context: dict[str, Any] | None = Field(
        default=None, serialization_alias="sessionContext"
    )
    task_name: str | None = None
    opscore_session_id: str | None = None
    opscore_task_id: str | None = None

    def body(self) -> bytes:
        """Return the JSON that is sent; what is not given is left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class RunAccepted(BaseModel):
    """AgentKit took a message. This is no delivery: only the agent's own word is.

    `data` is `{"agentId", "dispatch_status": "scheduled"}`, or a tool's result.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    status: Literal["success"]
    message: str | None = None
    data: Any = None


def faults(error: ValidationError, *where: str) -> list[dict[str, Any]]:
    """List what is wrong, without the values: they may be secrets, and the caller has them."""
    return [
        {"type": fault["type"], "loc": [*where, *fault["loc"]], "msg": fault["msg"]}
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _fitted(text: str, longest: int) -> str:
    plain = _CONTROL.sub(" ", text).strip()
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def _passes(rule: TypeAdapter[str], value: str | None) -> bool:
    try:
        rule.validate_python(value)
    except ValidationError:
        return False
    return True
