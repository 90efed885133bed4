"""A definition, from a document that somebody wrote: right in all, or every fault at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Final

from opscore_middleware.core.workflows.definition import WorkflowDefinition
from opscore_middleware.core.workflows.expressions import Expressions
from opscore_middleware.core.workflows.faults import Fault, quoted
from opscore_middleware.core.workflows.formulas import formula_faults
from opscore_middleware.core.workflows.order import cycle_faults, graph_of, id_faults
from opscore_middleware.core.workflows.shape import shape_faults
from opscore_middleware.core.workflows.sketch import sketch
from opscore_middleware.errors import InvalidDefinition

__all__ = ["Cron", "check", "parse"]

Cron = Callable[[str, datetime], datetime]
"""Returns when a cron expression next comes true after a time. Raises `ValueError`, saying of one
that never does why: it `is no cron expression: ...`, or it `never comes: ...`."""

_MAX_FAULTS: Final = 100
_MAX_CYCLES: Final = 20
# A schedule that comes true after this comes true at all; any day would do.
_SOME_DAY: Final = datetime(2000, 1, 1, tzinfo=UTC)


def parse(
    document: Any, *, expressions: Expressions, cron: Cron | None = None
) -> WorkflowDefinition:
    """Return the definition that a document spells, once it is right in all.

    Without `cron` a schedule is taken as it is. Raises `InvalidDefinition` with every fault.
    """
    faults = check(document, expressions=expressions, cron=cron)
    if faults:
        raise InvalidDefinition(
            [{"path": fault.path, "message": fault.message} for fault in faults]
        )
    return WorkflowDefinition.model_validate(document)


def check(document: Any, *, expressions: Expressions, cron: Cron | None = None) -> list[Fault]:
    """Return everything that is wrong with a document as a definition, in its order.

    Of each kind of fault at most a hundred, of cycles at most twenty.
    """
    if not isinstance(document, Mapping):
        return [Fault((), "must be an object with id, name and tasks")]
    tasks = sketch(document)
    graph = graph_of(tasks)
    cycles = list(islice(cycle_faults(tasks, graph), _MAX_CYCLES))
    formulas = formula_faults(tasks, graph, expressions=expressions, is_ordered=not cycles)
    stages = (shape_faults(document), id_faults(tasks), formulas, _schedule_faults(document, cron))
    # Each fault looks for what was meant, among all that there is: a broken million of them is not
    # worth that.
    found = [*cycles, *chain.from_iterable(islice(stage, _MAX_FAULTS) for stage in stages)]
    return sorted(found, key=_place)


def _schedule_faults(document: Mapping[str, Any], cron: Cron | None) -> Iterator[Fault]:
    schedule = document.get("schedule")
    if not isinstance(schedule, str):
        return
    if document.get("agentId") is None:
        yield Fault(
            ("agentId",), "is required with a schedule: the sessions that it starts are of an agent"
        )
    if cron is not None:
        try:
            cron(schedule, _SOME_DAY)
        except ValueError as error:
            yield Fault(("schedule",), f"{quoted(schedule)} {error}")


def _place(fault: Fault) -> int:
    match fault.loc:
        case ("tasks", int(place), *_):
            return place
    return -1
