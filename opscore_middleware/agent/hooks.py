"""What an integrator may hook in: typed, bounded, and unable to hurt the app."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from opscore_middleware.agent.envelopes import Detector
from opscore_middleware.agent.outbox import Entry
from opscore_middleware.agent.results import ResultMap
from opscore_middleware.core.states import AgentState

__all__ = ["Hooks", "StateChange", "guarded"]

logger = logging.getLogger("opscore_middleware")

WITHHELD: Final = "<withheld: redact failed>"


@dataclass(frozen=True, slots=True)
class StateChange:
    """One transition, as `on_transition` is told of it."""

    state: AgentState
    at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)
    instance_id: str = ""
    sequence: int = 0


class Hooks(NamedTuple):
    """The integrator's own functions; see `OpsCoreMiddleware` for what each is for."""

    outcome: Sequence[Detector] = ()
    redact: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None
    on_transition: Callable[[StateChange], None] | None = None
    on_cancel: Callable[[str], None] | None = None
    result: ResultMap | None = None
    clock: Callable[[], float] = time.time

    def redacted(self, details: dict[str, Any]) -> dict[str, Any]:
        """Return what may be told of a failure; where `redact` fails, only its kind is.

        The phase of a failure is always told: work is given out by it, and it says nothing of
        anybody.
        """
        if self.redact is None:
            return details
        error = details["error"]
        kind, phase = error["type"], error.get("phase")  # while the details are ours
        try:
            told = dict(self.redact(details) or {})
            to_json(told)  # what cannot be sent would hold up everything behind it
        except Exception as exception:
            # By its class alone: what it says may quote what was not to be told.
            logger.warning(
                "redact= function %r raised %s; the message of an error is withheld",
                getattr(self.redact, "__qualname__", type(self.redact).__qualname__),
                type(exception).__qualname__,
            )
            told = {"error": {"type": kind, "message": WITHHELD}}
        if phase is not None:
            left = told.get("error")
            told["error"] = {**(left if isinstance(left, Mapping) else {}), "phase": phase}
        return told

    def tell(self, entry: Entry) -> None:
        """Call `on_transition`; what it raises is logged and goes no further."""
        if self.on_transition is None:
            return
        try:
            change = StateChange(
                entry.state,
                datetime.fromtimestamp(entry.at, UTC),
                copy.deepcopy(entry.details or {}),  # the entry itself is still to be sent
                entry.instance.instance_id,
                entry.sequence,
            )
            self.on_transition(change)
        except BaseException:  # SystemExit as well: it would end the reporter's thread
            logger.exception("on_transition failed for %s", entry.state)


def guarded(clock: Callable[[], float]) -> Callable[[], float]:
    """Return an integrator's clock, with the machine's time wherever it tells none."""
    if clock is time.time:
        return clock
    failed = False

    def now() -> float:
        nonlocal failed
        try:
            at = float(clock())
            datetime.fromtimestamp(at, UTC)  # what is no time would hold up everything behind it
        except Exception as exception:
            at = time.time()
            if not failed:
                failed = True
                logger.warning(
                    "clock= function %r told no time (%s: %s); the machine's is told; said once",
                    getattr(clock, "__qualname__", type(clock).__qualname__),
                    type(exception).__qualname__,
                    exception,
                )
        return at

    return now
