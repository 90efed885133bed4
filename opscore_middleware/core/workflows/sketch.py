"""What can be read of a document that may have faults anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from opscore_middleware.core.workflows.faults import Loc

__all__ = ["Reference", "Sketch", "sketch"]


class Reference(NamedTuple):
    """A place in a task that names another one."""

    loc: Loc
    task_id: str


class Sketch(NamedTuple):
    """A task as far as it can be read; a field of the wrong type reads as left out."""

    loc: Loc
    task_id: str | None
    next_task: Reference | None
    depends_on: tuple[Reference, ...]
    fallback: Reference | None
    when: str | None
    for_each: str | None
    parameters: Mapping[str, Any]

    @property
    def references(self) -> Iterator[Reference]:
        """All places that name another task, in the order of the fields."""
        if self.next_task is not None:
            yield self.next_task
        yield from self.depends_on
        if self.fallback is not None:
            yield self.fallback


def sketch(document: Mapping[str, Any]) -> list[Sketch]:
    """Return what can be read of a document's tasks; those that are no objects are left out."""
    tasks = document.get("tasks")
    if not isinstance(tasks, list | tuple):
        return []
    return [
        _sketch(("tasks", place), task)
        for place, task in enumerate(tasks)
        if isinstance(task, Mapping)
    ]


def _sketch(loc: Loc, task: Mapping[str, Any]) -> Sketch:
    depends_on = task.get("dependsOn")
    parameters = task.get("parameters")
    return Sketch(
        loc=loc,
        task_id=_text(task, "taskId"),
        next_task=_reference(loc, task, "nextTaskId"),
        depends_on=tuple(
            Reference((*loc, "dependsOn", place), one)
            for place, one in enumerate(depends_on if isinstance(depends_on, list | tuple) else ())
            if isinstance(one, str)
        ),
        fallback=_reference(loc, task, "fallbackTaskId"),
        when=_text(task, "when"),
        for_each=_text(task, "forEach"),
        parameters=parameters if isinstance(parameters, Mapping) else {},
    )


def _text(task: Mapping[str, Any], field: str) -> str | None:
    value = task.get(field)
    return value if isinstance(value, str) else None


def _reference(loc: Loc, task: Mapping[str, Any], field: str) -> Reference | None:
    task_id = _text(task, field)
    return None if task_id is None else Reference((*loc, field), task_id)
