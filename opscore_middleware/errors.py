"""Every exception that this package raises on purpose.

    OpsCoreError
    ├── ConfigurationError          a setting is missing, malformed or contradicts another
    │   └── MissingExtra            an optional part is not installed; names the install line
    ├── InvalidInput                400  well-formed, but breaks a rule
    │   ├── InvalidState            400  a state that nobody may report
    │   ├── AgentIdMismatch         400  body and path name different agents
    │   ├── InvalidCursor           400  a page cursor that this server did not hand out
    │   └── InvalidEventType        400  a webhook about something that Ops-Core does not take
    ├── Unauthorized                401  no key, or a wrong one
    ├── WebhookRefused              401  a webhook that AgentKit cannot be shown to have sent
    │   ├── WebhookSecretRequired   401  no secret is configured to verify it with
    │   ├── MissingSignature        401  it carries no signature or no timestamp
    │   ├── InvalidSignature        401  the signature fits none of the secrets
    │   └── StaleSignature          401  signed too long ago, or too far ahead
    ├── Forbidden                   403  a key that opens something else
    │   └── EndpointNotAllowed      403  an address that Ops-Core may not send tasks to
    ├── AgentNotFound               404  nobody by that id
    ├── SessionNotFound             404  no session with that id
    ├── WorkflowNotFound            404  no definition with that id, or no such version of it
    ├── TaskNotFound                404  no task with that id
    ├── Conflict                    409  the request contradicts what is so already
    │   ├── SessionExists           409  another session has that id
    │   ├── SessionEnded            409  a session that is over is not changed
    │   ├── Superseded              409  another attempt of the task has taken this one's place
    │   └── TaskEnded               409  a task that is over is not changed
    ├── AgentDeregistered           410  known once, taken out on purpose
    ├── BodyTooLarge                413  more bytes than the server reads
    ├── ValidationFailed            422  the body does not have the documented shape
    ├── InvalidDefinition           422  a workflow definition has faults; `faults` are all of them
    ├── ExpressionFailed            422  an expression of a workflow cannot be reckoned
    ├── IdempotencyMismatch         422  the key was used for another request
    ├── Overloaded                  429  more waits to be written than the server takes on
    ├── StoreUnavailable            503  the database cannot be used right now
    ├── NotReady                    503  the server cannot do its work yet, or not any more
    └── RemoteError                      what another server answered, for callers of a client
        ├── RemoteUnavailable            it did not answer at all
        ├── EventsGone                   the events to go on from are not kept any more
        ├── AgentNameTaken               AgentKit has an agent by that name already
        ├── AgentUnknownToAgentKit       AgentKit has no agent by that id
        └── MessageRefused               AgentKit did not take a message, or a tool failed

`code` is the snake_case name that programs match on and `status` the HTTP status that the
server answers with; both are stable. `context` holds the values that the message names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "AgentDeregistered",
    "AgentIdMismatch",
    "AgentNameTaken",
    "AgentNotFound",
    "AgentUnknownToAgentKit",
    "BodyTooLarge",
    "ConfigurationError",
    "Conflict",
    "EndpointNotAllowed",
    "EventsGone",
    "ExpressionFailed",
    "Forbidden",
    "IdempotencyMismatch",
    "InvalidCursor",
    "InvalidDefinition",
    "InvalidEventType",
    "InvalidInput",
    "InvalidSignature",
    "InvalidState",
    "MessageRefused",
    "MissingExtra",
    "MissingSignature",
    "NotReady",
    "OpsCoreError",
    "Overloaded",
    "RemoteError",
    "RemoteUnavailable",
    "SessionEnded",
    "SessionExists",
    "SessionNotFound",
    "StaleSignature",
    "StoreUnavailable",
    "Superseded",
    "TaskEnded",
    "TaskNotFound",
    "Unauthorized",
    "ValidationFailed",
    "WebhookRefused",
    "WebhookSecretRequired",
    "WorkflowNotFound",
]


class OpsCoreError(Exception):
    """The root of every error that this package raises on purpose."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.context = context


class ConfigurationError(OpsCoreError):
    """A setting is missing, malformed or contradicts another one."""

    code = "configuration_error"


class MissingExtra(ConfigurationError):
    """An optional part of the package is used but not installed."""

    code = "missing_extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f'{what} needs the {extra} extra: pip install "opscore-middleware[{extra}]"',
            extra=extra,
        )


class InvalidInput(OpsCoreError):
    """The request is well-formed but breaks a rule of the contract."""

    code = "invalid_input"
    status = 400


class InvalidState(InvalidInput):
    """A report names a state that nobody may report."""

    code = "invalid_state"


class AgentIdMismatch(InvalidInput):
    """The body names another agent than the path."""

    code = "agent_id_mismatch"


class InvalidCursor(InvalidInput):
    """A page cursor was not handed out by this server for this list."""

    code = "invalid_cursor"


class InvalidEventType(InvalidInput):
    """A webhook tells of an event that Ops-Core does not take."""

    code = "invalid_event_type"


class Unauthorized(OpsCoreError):
    """The request carries no key, or a wrong one."""

    code = "unauthorized"
    status = 401


class Forbidden(OpsCoreError):
    """The key is this server's, and does not open what was asked for."""

    code = "forbidden"
    status = 403


class EndpointNotAllowed(Forbidden):
    """An agent's endpoint is not among those that Ops-Core may send tasks to."""

    code = "endpoint_not_allowed"


class WebhookRefused(OpsCoreError):
    """A webhook cannot be shown to come from AgentKit; nothing of it was read or kept."""

    code = "webhook_refused"
    status = 401


class WebhookSecretRequired(WebhookRefused):
    """No secret is configured, so no webhook can be verified."""

    code = "webhook_secret_required"


class MissingSignature(WebhookRefused):
    """A webhook carries no signature, or no timestamp."""

    code = "missing_signature"


class InvalidSignature(WebhookRefused):
    """A webhook's signature fits none of the configured secrets."""

    code = "invalid_signature"


class StaleSignature(WebhookRefused):
    """A webhook was signed too long ago, or too far ahead of this server's clock."""

    code = "stale_signature"


class AgentNotFound(OpsCoreError):
    """No agent with that id has ever been registered here."""

    code = "agent_not_found"
    status = 404


class SessionNotFound(OpsCoreError):
    """No session with that id was ever started here."""

    code = "session_not_found"
    status = 404


class WorkflowNotFound(OpsCoreError):
    """No definition has that id, or it has no such version."""

    code = "workflow_not_found"
    status = 404


class TaskNotFound(OpsCoreError):
    """No task has that id."""

    code = "task_not_found"
    status = 404


class Conflict(OpsCoreError):
    """The request contradicts what is so already."""

    code = "conflict"
    status = 409


class SessionExists(Conflict):
    """Another session has the id that a new one was to have."""

    code = "session_exists"


class SessionEnded(Conflict):
    """The session is over, and what is over is not changed."""

    code = "session_ended"


class Superseded(Conflict):
    """Another attempt of the task has taken this one's place; what it says changes nothing."""

    code = "superseded"


class TaskEnded(Conflict):
    """The task is over; what is over is not changed."""

    code = "task_ended"


class AgentDeregistered(OpsCoreError):
    """The agent was registered once and has been taken out on purpose."""

    code = "agent_deregistered"
    status = 410


class BodyTooLarge(OpsCoreError):
    """The request body has more bytes than the server reads."""

    code = "body_too_large"
    status = 413


class ValidationFailed(OpsCoreError):
    """The body does not have the documented shape; `errors` lists each fault."""

    code = "validation_failed"
    status = 422

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(f"{e.get('loc')}: {e.get('msg')}" for e in errors))
        self.errors = errors


class IdempotencyMismatch(OpsCoreError):
    """An `Idempotency-Key` came a second time, with another request."""

    code = "idempotency_mismatch"
    status = 422


class InvalidDefinition(OpsCoreError):
    """A workflow definition has faults; `faults` has the path and the message of each."""

    code = "invalid_definition"
    status = 422

    def __init__(self, faults: Sequence[Mapping[str, str]]) -> None:
        listed = [dict(fault) for fault in faults]
        said = [f"{fault['path'] or 'the definition'}: {fault['message']}" for fault in listed]
        told = "; ".join(said)
        super().__init__(
            f"The definition has {len(listed)} fault{'s' if len(listed) != 1 else ''}: {told}.",
            faults=listed,
        )
        self.faults = listed


class ExpressionFailed(OpsCoreError):
    """An expression of a workflow cannot be reckoned with what its run has brought so far."""

    code = "expression_failed"
    status = 422


class Overloaded(OpsCoreError):
    """More waits to be written than the server takes on; nothing of the request was read."""

    code = "overloaded"
    status = 429

    def __init__(self, message: str, *, retry_after: int, **context: Any) -> None:
        super().__init__(message, retry_after=retry_after, **context)
        self.retry_after = retry_after


class StoreUnavailable(OpsCoreError):
    """The database cannot be used right now; trying again later may help."""

    code = "store_unavailable"
    status = 503


class NotReady(OpsCoreError):
    """The server is there, and cannot do its work right now."""

    code = "not_ready"
    status = 503


class RemoteError(OpsCoreError):
    """Another server refused a call; `remote_status` and `remote_code` are its words."""

    code = "remote_error"
    status = 502

    def __init__(
        self, message: str, *, remote_status: int | None, remote_code: str | None, **context: Any
    ) -> None:
        super().__init__(message, **context)
        self.remote_status = remote_status
        self.remote_code = remote_code


class RemoteUnavailable(RemoteError):
    """Another server could not be reached or did not answer in time."""

    code = "remote_unavailable"

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message, remote_status=None, remote_code=None, **context)


class EventsGone(RemoteError):
    """The events to go on from are not kept any more; `first_event_id` is the first that is."""

    code = "events_gone"

    def __init__(self, message: str, *, first_event_id: int, **context: Any) -> None:
        super().__init__(
            message, remote_status=None, remote_code=None, first_event_id=first_event_id, **context
        )
        self.first_event_id = first_event_id


class AgentNameTaken(RemoteError):
    """AgentKit has an agent by that name already; perhaps this one, from before its restart."""

    code = "agent_name_taken"


class AgentUnknownToAgentKit(RemoteError):
    """AgentKit has no agent by that id; its registry lives in memory and a restart empties it."""

    code = "agent_unknown_to_agentkit"


class MessageRefused(RemoteError):
    """AgentKit did not take a message, or a tool that it ran at once failed."""

    code = "message_refused"
