"""Which JSON-RPC calls are work, told from a request's body as the app reads it."""

from __future__ import annotations

import re
from typing import Final

from pydantic_core import from_json

from opscore_middleware.agent.correlation import TASK_TOKEN

__all__ = ["BodyPeek", "is_json_type", "is_plain", "is_work"]

HEAD: Final = 64 * 1024
"""Bytes of a body that are looked at."""

IDLE_METHODS: Final = (
    "initialize",
    "server/discover",
    "ping",
    "notifications/*",
    "tools/list",
    "resources/*",
    "prompts/*",
    "completion/complete",
    "logging/setLevel",
    "subscriptions/listen",
    "skills/list",
    "skills/get",
    "tasks/get",
    "tasks/list",
    "tasks/cancel",
    "tasks/resubscribe",
    "tasks/pushNotificationConfig/*",
    "GetTask",
    "ListTasks",
    "CancelTask",
    "SubscribeToTask",
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "DeleteTaskPushNotificationConfig",
    "agent/getAuthenticatedExtendedCard",
    "GetExtendedAgentCard",
)
"""The methods of MCP and A2A that are no work, or only listen; every other one is."""

# Without its last quote, the rarest byte is last, where the search looks first.
_TOKEN: Final = b'"jsonrpc'
_NAMES: Final = frozenset(name for name in IDLE_METHODS if not name.endswith("*"))
_FAMILIES: Final = tuple(name[:-1] for name in IDLE_METHODS if name.endswith("*"))
# Most calls are work, and often large: they need no parsing when no idle name is there at all.
_MENTIONS_IDLE: Final = re.compile(
    rb'"method"\s*:\s*"(?:%s)'
    % b"|".join(re.escape(name.rstrip("*")).replace("/", r"\\?/").encode() for name in IDLE_METHODS)
)


def is_json_type(content_type: bytes) -> bool:
    """Tell whether a content type is JSON or a format built on it (`application/….+json`)."""
    if content_type == b"application/json":
        return True
    media = content_type.partition(b";")[0].strip().lower()
    return media == b"application/json" or media.endswith(b"+json")


def is_plain(body: bytes) -> bool:
    """Tell whether a whole body of usual size is no call and names no task. Never raises."""
    try:
        return len(body) <= HEAD and body.find(_TOKEN) < 0 and body.find(TASK_TOKEN) < 0
    except Exception:
        return False  # no body that a server sends


def is_work(body: bytes) -> bool:
    """Tell whether a whole body asks for work. Never raises."""
    return _asks_for_work(body, whole=True)


class BodyPeek:
    """Decides from the first part of a body that the app receives."""

    __slots__ = ("_work",)

    def __init__(self) -> None:
        self._work: bool | None = None

    def feed(self, body: bytes, more: bool) -> bool | None:
        """Look at a part as it arrives; None while there was nothing to look at."""
        if self._work is None and (body or not more):
            self._work = _asks_for_work(body, whole=not more)
        return self._work


def _asks_for_work(body: bytes, *, whole: bool) -> bool:
    try:
        if body.find(_TOKEN, 0, HEAD) < 0 or _MENTIONS_IDLE.search(body, 0, HEAD) is None:
            return True
        if len(body) > HEAD:
            body, whole = body[:HEAD], False
        call = from_json(body, allow_partial=not whole)
    except Exception:
        return True  # no JSON, or no body that a server sends
    if isinstance(call, list):
        # What is not seen of a batch may be work.
        return not whole or not call or not all(map(_is_idle, call))
    return not _is_idle(call)


def _is_idle(call: object) -> bool:
    if not isinstance(call, dict) or "jsonrpc" not in call:
        return False
    method = call.get("method")
    return isinstance(method, str) and (method in _NAMES or method.startswith(_FAMILIES))
