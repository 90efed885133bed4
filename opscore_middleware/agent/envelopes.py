"""Finds the failures that agents report inside a response of status 200."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from opscore_middleware.agent.failure import KIND_LIMIT, Failure, bounded
from opscore_middleware.agent.signs import SIGNS, Object, Path, Sign, Within

__all__ = ["Detector", "Verdict", "find_event_failure", "find_failure"]

logger = logging.getLogger("opscore_middleware")

_UNSAID: Final = "no message given"

Verdict: TypeAlias = Failure | str | Mapping[str, Any] | None
"""What a detector may say."""


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
    return sign.found(bounded(sign.kind.format(value), KIND_LIMIT), bounded(words))


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
    return Failure(bounded(str(kind), KIND_LIMIT), bounded(str(message)))
