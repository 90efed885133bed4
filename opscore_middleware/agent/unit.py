"""A piece of work that is tracked, from its begin to its end."""

from __future__ import annotations

from opscore_middleware.agent.ended import TaskEnd
from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.origin import CURRENT, Origin
from opscore_middleware.agent.outcome import describe_unit, describe_unit_failure, is_failure
from opscore_middleware.agent.runtime import only_runtime

__all__ = ["Unit", "find_origin"]


class Unit:
    """One tracked piece of work of an origin.

    Args:
        origin: what it belongs to.
        name: what it is called in the details of a failure.
        alone: it takes its request over: of that, only units count from here on.
    """

    __slots__ = ("_name", "_origin", "_running", "_unit")

    def __init__(self, origin: Origin, name: str | None, *, alone: bool = False) -> None:
        self._origin = origin
        self._name = name
        self._unit = origin.take_over() if alone else origin.open_unit()
        self._running = origin.runtime.cancellations.add(origin.task)

    @property
    def origin(self) -> Origin:
        """What it belongs to."""
        return self._origin

    def end(
        self,
        exception: BaseException | None,
        failure: Failure | None = None,
        end: TaskEnd | None = None,
        *,
        cut_off: bool = False,
    ) -> None:
        """Close it.

        `failure` is how it failed by its own word, which goes before an exception, `end` how its
        task ended, where that does not follow, and `cut_off` says that it has not.
        """
        origin = self._origin
        origin.runtime.cancellations.discard(self._running)
        details = None
        if failure is not None:
            details = describe_unit_failure(failure, self._name)
        elif exception is not None and is_failure(exception):
            details = describe_unit(exception, self._name)
        told = None if details is None else origin.runtime.hooks.redacted(details)
        cut_off = told is None and (cut_off or exception is not None)
        origin.close_unit(self._unit, told, cut_off=cut_off, end=end)


def find_origin() -> Origin | None:
    """Return what the code that runs descends from, else the only agent of the process."""
    origin = CURRENT.get(None)
    if origin is None:
        runtime = only_runtime()
        return None if runtime is None else Origin(runtime)
    return origin
