"""What an integration is, and the units that it opens."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias, runtime_checkable

from opscore_middleware.agent.ended import TaskEnd
from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.origin import Origin
from opscore_middleware.agent.outcome import describe_unit_failure
from opscore_middleware.agent.results import LIMIT, TaskResult
from opscore_middleware.agent.unit import Unit, find_origin

__all__ = ["Integration", "OpenUnit", "WorkUnit"]


class WorkUnit:
    """One piece of a framework's work: a context manager to enter once, with or without `async`.

    It takes the request that it descends from over: from the first one on, a request counts for as
    long as its units are open, and what becomes of them decides, not the response. Without a
    request it counts by itself.
    """

    def __init__(self, integration: str, name: str | None) -> None:
        self._integration = integration
        self._name = name
        self._unit: Unit | None = None
        self._failure: Failure | None = None
        self._broken_off = False
        self._decides = False
        self._body: bytes | None = None
        self._refused: tuple[int, Failure] | None = None

    def fail(self, failure: Failure | str) -> None:
        """Say how the work has failed, where no exception does; what is said first counts."""
        if self._failure is None:
            self._failure = failure if isinstance(failure, Failure) else Failure("Failure", failure)

    def refuse(self, status: int, failure: Failure) -> None:
        """Say that it was refused for what the caller has sent, as an answer of that status would.

        Its task has failed, the agent has not.
        """
        self._refused = status, failure

    def break_off(self) -> None:
        """Say that it ends without having come to its end: it was stopped, or goes on in another.

        That ends no task.
        """
        self._broken_off = True

    def come_to(self, body: bytes | None) -> None:
        """Say what the work has come to, in JSON, or None where there is nothing to be told.

        If it ends well, its task is completed with that at once; the response is no result.
        """
        self._decides, self._body = True, body

    def __enter__(self) -> Self:
        origin = find_origin()
        if origin is not None and self._integration in origin.runtime.integrations:
            self._unit = Unit(origin, self._name, alone=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        unit, self._unit = self._unit, None
        if unit is not None:
            passing = None if self._broken_off or self._refused else exception
            well = passing is None and self._failure is None and not self._broken_off
            end = self._end(unit.origin) if well and (self._decides or self._refused) else None
            unit.end(passing, self._failure, end, cut_off=self._broken_off)
        return False

    def _end(self, origin: Origin) -> TaskEnd:
        if self._refused is not None:
            status, failure = self._refused
            error = origin.runtime.hooks.redacted(describe_unit_failure(failure, self._name))
            return TaskEnd("failed", status, error=error)
        if self._body is None or not origin.runtime.reports_results:
            return TaskEnd("completed")
        result = TaskResult(self._body)
        if result.size > LIMIT:
            result.drop()
        return TaskEnd("completed", result=result)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        return self.__exit__(kind, exception, traceback)


OpenUnit: TypeAlias = Callable[[str | None], WorkUnit]
"""Makes a unit by the name that the details of a failure call it by."""


@runtime_checkable
class Integration(Protocol):
    """Opens units where a framework works, so that its requests are not taken for its work."""

    @property
    def name(self) -> str:
        """What it is switched on and off by."""
        ...

    @property
    def module(self) -> str:
        """The module whose import shows that the framework is in use; it is not imported for it."""
        ...

    def attach(self, open_unit: OpenUnit) -> None:
        """Have the framework open units, for as long as the process lives; called once.

        `open_unit` may be called by any code: where the agent that it runs for has switched the
        integration off, or where there is none, what it returns does nothing.

        Raises whatever keeps it from attaching, such as a version that it does not know. That is
        logged once, and the framework's requests count as any others.
        """
        ...
