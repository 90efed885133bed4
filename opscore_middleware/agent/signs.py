"""How agents tell of failures inside a response of status 200.

`SIGNS` is the whole of what is known about that. A sign must be unmistakable: a plain
`{"status": "failed"}` or `{"error": "…"}` of somebody's API is none of our business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple, TypeAlias

from opscore_middleware.agent.failure import Failure, Shown

__all__ = ["SIGNS", "TOKENS", "Object", "Path", "Sign", "Within"]

Path: TypeAlias = tuple[str, ...]
Object: TypeAlias = Mapping[str, Any]


class Within(Enum):
    """Where a sign means something."""

    ANY = auto()
    """In a JSON body and in the data of an event."""
    EVENT = auto()
    """In the data of an event alone."""
    NAME = auto()
    """In the name of an event."""


class Sign(NamedTuple):
    """How one kind of failure is recognised."""

    kind: str
    """What it is called; `{}` stands for the field's value."""
    found: type[Failure]
    """Of whom it tells: `Failure` of the call itself, `Shown` of what the call may only look at."""
    within: Within
    places: tuple[Path, ...]
    """Where the telling object may stand, from the root."""
    field: Path
    """What tells, from that object."""
    says: Callable[[Any], bool]
    """Whether the field's value means failure."""
    beside: Callable[[Object, Object], bool]
    """Whether root and object make it unmistakable."""
    messages: tuple[Path, ...]
    """Where the words for it are, from that object; the first that are there are taken."""
    tokens: tuple[str, ...]
    """A text that has none of these, in lower case, does not bear the sign."""


def _is(*values: str) -> Callable[[Any], bool]:
    known = frozenset(values)
    return lambda value: isinstance(value, str) and value in known


def _has(*names: str) -> Callable[[Object, Object], bool]:
    """Any of these fields stands beside."""
    return lambda _root, holder: any(holder.get(name) for name in names)


def _is_failed_event(value: Any) -> bool:
    return isinstance(value, str) and value.endswith("FailedEvent")


def _is_own_fault(code: Any) -> bool:
    """Tell whether a JSON-RPC error is the server's; the rest are the caller's or defined by it."""
    if not isinstance(code, int) or isinstance(code, bool):
        return False
    return not (code == -32700 or -32602 <= code <= -32600 or -32099 <= code <= -32000)


def _is_jsonrpc(root: Object, _holder: Object) -> bool:
    return "jsonrpc" in root


def _is_a2a(root: Object, holder: Object) -> bool:
    state = holder["status"]["state"]
    return (
        state.startswith("TASK_STATE_")
        or "jsonrpc" in root
        or holder.get("kind") in {"task", "status-update"}
        or isinstance(holder.get("contextId") or holder.get("taskId"), str)
    )


def _is_workflow_event(_root: Object, holder: Object) -> bool:
    return isinstance(holder.get("value"), dict)


def _is_outermost_run(root: Object, holder: Object) -> bool:
    """Leave a run within a run to be judged by the outer one."""
    return not holder.get("parent_run_id")


def _is_outermost_known_run(root: Object, holder: Object) -> bool:
    return isinstance(holder.get("run_id"), str) and _is_outermost_run(root, holder)


def _has_error_text(_root: Object, holder: Object) -> bool:
    """An empty one as well: what many timeouts say of themselves is nothing."""
    return isinstance(holder.get("errorText"), str)


def _always(_root: Object, _holder: Object) -> bool:
    return True


def _never_jsonrpc(root: Object, _holder: Object) -> bool:
    return "jsonrpc" not in root


_ROOT: Final[tuple[Path, ...]] = ((),)
_A2A: Final[tuple[Path, ...]] = (
    (),
    ("result",),
    ("task",),
    ("statusUpdate",),
    ("result", "task"),
    ("result", "statusUpdate"),
)
_A2A_FAILED: Final = _is("failed", "rejected", "TASK_STATE_FAILED", "TASK_STATE_REJECTED")
_A2A_WORDS: Final[tuple[Path, ...]] = (
    ("status", "message", "parts", "text"),
    ("status", "message", "content", "text"),
)
_ACP_WORDS: Final[tuple[Path, ...]] = (("error", "message"), ("error",))
_AGNO_EVENT: Final = _is("RunError", "TeamRunError", "WorkflowError")
_AGNO_WORDS: Final[tuple[Path, ...]] = (("content",), ("error",))
_OPENAI_EVENT: Final = _is("response.failed", "run.failed", "thread.run.failed")
_OPENAI_WORDS: Final[tuple[Path, ...]] = (
    ("response", "error", "message"),
    ("run", "error", "message"),
    ("last_error", "message"),
    ("error", "message"),
    ("message",),
)
_EVENT_WORDS: Final[tuple[Path, ...]] = (
    ("message",),
    ("error", "message"),
    ("error",),
    ("errorText",),
    ("content",),
    ("detail",),
)
_WORKFLOW_WORDS: Final[tuple[Path, ...]] = (
    ("value", "exception", "exception_message"),
    ("value", "exception_message"),
    ("value", "message"),
)

_ANY, _EVENT, _NAME = Within.ANY, Within.EVENT, Within.NAME
# fmt: off
SIGNS: Final[tuple[Sign, ...]] = (
    Sign("JSON-RPC {}", Failure, _ANY, _ROOT, ("error", "code"), _is_own_fault, _is_jsonrpc,
         (("error", "message"),), ("error",)),
    Sign("A2A {}", Shown, _ANY, _A2A, ("status", "state"), _A2A_FAILED, _is_a2a,
         _A2A_WORDS, ("failed", "rejected")),
    Sign("MCP isError", Failure, _ANY, (("result",),), ("isError",), lambda value: value is True,
         _is_jsonrpc, (("content", "text"),), ("error",)),
    Sign("AG-UI {}", Failure, _ANY, _ROOT, ("type",), _is("RUN_ERROR"), _always,
         (("message",), ("error", "message")), ("error",)),
    Sign("ACP {}", Shown, _ANY, _ROOT, ("status",), _is("failed"), _has("run_id"),
         _ACP_WORDS, ("failed",)),
    Sign("ACP {}", Failure, _ANY, (("run",),), ("status",), _is("failed"), _has("run_id"),
         _ACP_WORDS, ("failed",)),
    Sign("OpenAI {}", Failure, _ANY, _ROOT, ("type",), _OPENAI_EVENT, _has("response", "run"),
         _OPENAI_WORDS, ("failed",)),
    Sign("OpenAI response {}", Shown, _ANY, _ROOT, ("status",), _is("failed"),
         lambda _, holder: holder.get("object") == "response", _OPENAI_WORDS, ("failed",)),
    Sign("agno {}", Failure, _ANY, _ROOT, ("event",), _AGNO_EVENT, _is_outermost_known_run,
         _AGNO_WORDS, ("error",)),
    Sign("agno {}", Shown, _ANY, _ROOT, ("status",), _is("ERROR"), _is_outermost_known_run,
         _AGNO_WORDS, ("error",)),
    Sign("LangGraph __error__", Shown, _ANY, _ROOT, ("__error__",), bool, _always,
         (("__error__", "message"), ("__error__", "error"), ("__error__",)), ("error",)),
    Sign("LlamaIndex {}", Failure, _ANY, _ROOT, ("type",), _is_failed_event, _is_workflow_event,
         _WORKFLOW_WORDS, ("failed",)),
    Sign("LlamaIndex {}", Failure, _ANY, _ROOT, ("qualified_name",), _is_failed_event,
         _is_workflow_event, _WORKFLOW_WORDS, ("failed",)),
    Sign("OpenAI {}", Failure, _EVENT, _ROOT, ("type",), _OPENAI_EVENT, _always,
         _OPENAI_WORDS, ("failed",)),
    Sign("agno {}", Failure, _EVENT, _ROOT, ("event",), _AGNO_EVENT, _is_outermost_run,
         _AGNO_WORDS, ("error",)),
    Sign("Vercel AI {}", Failure, _EVENT, _ROOT, ("type",), _is("error"), _has_error_text,
         (("errorText",),), ("error",)),
    # Whether JSON-RPC's own error is a failure depends on its code.
    Sign("Event error", Failure, _EVENT, _ROOT, ("error",), bool, _never_jsonrpc,
         (("error", "message"), ("error",), ("message",)), ("error",)),
    Sign("Event {}", Failure, _NAME, _ROOT, (), _is("error"), _always, _EVENT_WORDS, ("error",)),
    Sign("OpenAI {}", Failure, _NAME, _ROOT, (), _OPENAI_EVENT, _always,
         _OPENAI_WORDS, ("failed",)),
    Sign("agno {}", Failure, _NAME, _ROOT, (), _AGNO_EVENT, _is_outermost_run,
         _AGNO_WORDS, ("error",)),
    Sign("LlamaIndex {}", Failure, _NAME, _ROOT, (), _is_failed_event, _always,
         (*_WORKFLOW_WORDS, ("message",)), ("failed",)),
)
# fmt: on

TOKENS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys(token for sign in SIGNS for token in sign.tokens)
)
"""A text that has none of these, in whatever case, bears no sign."""
