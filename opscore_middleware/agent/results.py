"""What a task came to: the JSON that the app answered with, on its way to Ops-Core."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import from_json, to_json

from opscore_middleware.agent.scan import JsonScanner

__all__ = ["DROPPED", "RESULT", "ResultMap", "Results", "TaskResult", "answered", "without_result"]

logger = logging.getLogger("opscore_middleware")

LIMIT: Final = 64 * 1024
"""The longest result that is reported, in bytes of JSON."""

RESULT: Final = "opscore_task_result"
"""The details that hold a result; until it is taken to be sent, as a `TaskResult`."""
DROPPED: Final = "opscore_task_result_dropped"
"""The details that say that there was one, and no room to keep it."""

ResultMap = Callable[[Any], Any]


class TaskResult:
    """A result as it was sent to the client, until the reporter gets to it.

    Bytes, which take a fraction of the room that the values in them would; they are read in the
    reporter's thread.
    """

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body: bytes | None = body

    @property
    def size(self) -> int:
        """How many bytes it holds."""
        return 0 if self.body is None else len(self.body)

    def drop(self) -> None:
        """Give it up; what is left says that it was there."""
        self.body = None


def answered(scanner: object) -> TaskResult | None:
    """Return the JSON that was answered, given up where it was too long; None for anything else."""
    if not isinstance(scanner, JsonScanner):
        return None
    body = scanner.body()
    result = TaskResult(body or b"")
    if scanner.is_too_long:
        result.drop()
    return result if body or scanner.is_too_long else None


class Results:
    """Reads results as they are taken to be sent; used by one thread.

    Args:
        change: the integrator's own function: what it returns is reported instead, None nothing.
            What it raises is logged the first time, and nothing is reported.
    """

    def __init__(self, change: ResultMap | None = None) -> None:
        self._change = change
        self._raised = False

    def told(self, details: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return details as they are to be sent, with the result read where they hold one."""
        held = None if details is None else details.get(RESULT)
        if details is None or not isinstance(held, TaskResult):
            return details
        told = without_result(details)
        if held.body is None:
            told[DROPPED] = True
            return told
        try:
            value = from_json(held.body, allow_inf_nan=False)
        except ValueError:
            return told  # no JSON after all, whatever its content type said
        if self._change is None:
            told[RESULT] = value
        else:
            self._tell_changed(told, value)
        return told

    def _tell_changed(self, told: dict[str, Any], value: object) -> None:
        try:
            changed = None if self._change is None else self._change(value)
            # Through JSON and back: what cannot be sent would hold up everything behind it.
            body = to_json(changed, inf_nan_mode="null")
            if changed is not None and len(body) <= LIMIT:
                told[RESULT] = from_json(body)
        except BaseException as exception:  # SystemExit as well: it would end the reporter's thread
            if not self._raised:
                self._raised = True
                # By its class alone: what it says may quote the result.
                logger.warning(
                    "report_results= function %r raised %s; the result is withheld; told once",
                    getattr(self._change, "__qualname__", type(self._change).__qualname__),
                    type(exception).__qualname__,
                )


def without_result(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return details without the result that they may hold."""
    return {name: value for name, value in details.items() if name != RESULT}
