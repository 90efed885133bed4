"""Failures that agents report inside a response of status 200.

`SIGNS` is the whole of what is known about them. A sign must be unmistakable: a plain
`{"status": "failed"}` or `{"error": "…"}` of somebody's API is none of our business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = [
    "SIGNS",
    "TOKENS",
    "Detector",
    "Failure",
    "Shown",
    "Verdict",
    "bounded",
    "find_event_failure",
    "find_failure",
]

logger = logging.getLogger("opscore_middleware")

MESSAGE_LIMIT: Final = 500
"""The longest message that is taken, in characters."""
_KIND_LIMIT: Final = 100
_UNSAID: Final = "no message given"


class Failure(NamedTuple):
    """What failed, and the failing side's own words for it; bounded and fit to be sent."""

    kind: str
    message: str


class Shown(Failure):
    """One that an object tells of by its state: of the call that shows it only if that worked."""

    __slots__ = ()


Path: TypeAlias = tuple[str, ...]
Object: TypeAlias = Mapping[str, Any]
Verdict: TypeAlias = Failure | str | Mapping[str, Any] | None
"""What a detector may say."""


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


class _Spot(NamedTuple):
    """One place of one sign."""

    key: str
    """What the root must have for it; asked first, since nearly every root has not."""
    place: Path
    sign: Sign


def _spots(within: Within) -> tuple[_Spot, ...]:
    return tuple(
        _Spot((*place, *sign.field)[0], place, sign)
        for sign in SIGNS
        if sign.within is within
        for place in sign.places
    )


_IN_JSON: Final = _spots(Within.ANY)
_IN_EVENT: Final = _spots(Within.EVENT)
_IN_NAME: Final = tuple(sign for sign in SIGNS if sign.within is Within.NAME)


class Detector:
    """An integrator's own sign, kept from doing harm.

    Args:
        function: is given a parsed JSON value; what it returns other than None is a failure: a
            message, a mapping with `type` and `message`, or a `Failure`. When it raises, that is
            logged the first time and nothing was found.
    """

    __slots__ = ("_function", "_raised")

    def __init__(self, function: Callable[[object], Verdict]) -> None:
        self._function = function
        self._raised = False

    def __call__(self, value: object) -> Failure | None:
        """Ask the function about a value."""
        try:
            return _as_failure(self._function(value))
        except Exception as exception:
            if not self._raised:
                self._raised = True
                # By its class alone: what it says may quote the response.
                logger.warning(
                    "outcome= detector %r raised %s and was ignored; told once",
                    getattr(self._function, "__qualname__", type(self._function).__qualname__),
                    type(exception).__qualname__,
                )
            return None


def find_failure(envelope: object, detectors: Sequence[Detector] = ()) -> Failure | None:
    """Return the failure that a parsed JSON body reports. Never raises."""
    return _detected(envelope, detectors) or _look(envelope, _IN_JSON)


def find_event_failure(
    event: str | None, data: object | None, raw: bytes, detectors: Sequence[Detector] = ()
) -> Failure | None:
    """Return the failure that a server-sent event reports. Never raises.

    Args:
        event: the event's name, if it has one.
        data: its data, parsed; None when that is no JSON.
        raw: its data as it came.
    """
    return (
        _detected(data, detectors)
        or _look(data, _IN_JSON)
        or (_look_at_name(event, data, raw) if event else None)
        or _look(data, _IN_EVENT)
    )


def _detected(value: object, detectors: Sequence[Detector]) -> Failure | None:
    for detector in detectors:
        found = detector(value)
        if found is not None:
            return found
    return None


def _look(value: object, spots: Sequence[_Spot]) -> Failure | None:
    try:
        if isinstance(value, dict):
            return _read(value, spots)
        if isinstance(value, list):
            calls = (part for part in value if isinstance(part, dict) and "jsonrpc" in part)
            return next(filter(None, (_read(call, spots) for call in calls)), None)
    except Exception:
        return None  # strange beyond what any sender means, such as nesting without end
    return None


def _read(root: Object, spots: Sequence[_Spot]) -> Failure | None:
    for key, place, sign in spots:
        if key in root:
            holder = _at(root, place)
            value = _at(holder, sign.field)
            if value is not None and sign.says(value) and sign.beside(root, holder):
                return _failure(sign, value, holder)
    return None


def _look_at_name(event: str, data: object, raw: bytes) -> Failure | None:
    try:
        holder = data if isinstance(data, dict) else {}
        for sign in _IN_NAME:
            if sign.says(event) and sign.beside(holder, holder):
                found = _failure(sign, event, holder)
                if holder or not raw:
                    return found
                words = data if isinstance(data, str) else raw[:4096].decode("utf-8", "replace")
                return Failure(found.kind, bounded(words))
    except Exception:
        return None
    return None


def _failure(sign: Sign, value: object, holder: Object) -> Failure:
    words = next(filter(None, (_words(holder, path) for path in sign.messages)), _UNSAID)
    return sign.found(bounded(sign.kind.format(value), _KIND_LIMIT), bounded(words))


def _at(value: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _words(value: Any, path: Path) -> str:
    """Return the text at a path; that of a list's parts is joined."""
    if isinstance(value, list):
        return "\n".join(filter(None, (_words(part, path) for part in value)))
    if not path:
        return value if isinstance(value, str) else ""
    return _words(value.get(path[0]), path[1:]) if isinstance(value, dict) else ""


def _as_failure(verdict: Verdict) -> Failure | None:
    if not verdict:
        return None
    kind: object
    message: object
    kind, message = "Failure", verdict
    if isinstance(verdict, Failure):
        kind, message = verdict
    elif isinstance(verdict, Mapping):
        kind, message = verdict.get("type") or kind, verdict.get("message") or _UNSAID
    return Failure(bounded(str(kind), _KIND_LIMIT), bounded(str(message)))


def bounded(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return a text cut to size, without what JSON or a database cannot hold."""
    text = text[: limit + 1].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text if len(text) <= limit else text[: limit - 1] + "…"
