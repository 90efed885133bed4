"""What follows of itself from what has come about: who may begin, what is skipped, what is over.

A settled run has nothing more to come of itself but what its tasks that are `ready`, `dispatched`
or `running` bring; without any, it is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

from opscore_middleware.core.clock import LATEST, to_micros
from opscore_middleware.core.runs.plans import Node
from opscore_middleware.core.runs.steps.draft import LIVE, Draft
from opscore_middleware.core.runs.steps.filling import (
    as_json,
    is_wanted,
    items_of,
    parameters_of,
    reckoning_of,
    result_of,
)
from opscore_middleware.core.runs.tasks import ENDED, OPEN, Task, TaskState
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.core.workflows.budget import MAX_SIZE
from opscore_middleware.core.workflows.expressions import Reckoning
from opscore_middleware.errors import ExpressionFailed

__all__ = ["MAX_ITEMS", "MAX_SIZE", "Standing", "cancelled", "made_ready", "settle", "standing"]

MAX_ITEMS: Final = 10_000
"""How many items a `forEach` may find."""

# MAX_SIZE is also what the parameters of all items may come to together, and all their results.

_BROKEN: Final = frozenset({TaskState.FAILED, TaskState.CANCELLED})


class Standing(Enum):
    """What a node's state means for those that wait for it."""

    PENDING = "pending"
    WELL = "well"
    FATAL = "fatal"


def settle(draft: Draft, names: Iterable[str]) -> None:
    """Do all that follows, now that these nodes, or items of theirs, have changed."""
    if draft.is_over:
        return
    fresh = list(names)
    todo = deque(fresh)
    place = 0
    while todo:
        name = todo.popleft()
        place += 1
        row = was = draft.row(name)
        if row.state is TaskState.WAITING:
            row = _begin(draft, draft.node(name), row)
        elif row.state is TaskState.RUNNING:
            row = _gathered(draft, draft.node(name), row)
        if row.state not in ENDED or (row is was and place > len(fresh)):
            continue
        doomed = None if row.state is TaskState.COMPLETED else _doomed(draft, name)
        if doomed is not None:
            _fail(draft, doomed)
            return
        todo.extend(_affected(draft, name))
    if not any(task.state in LIVE for task in draft.tasks.values()):
        _conclude(draft)


def standing(draft: Draft, name: str) -> Standing:
    """Tell what a node means for those that wait for it.

    Where it failed, what stands is its fallback's; a fallback that was skipped changes nothing, nor
    does one that failed where the session goes on without the node.
    """
    row = draft.row(name)
    if row.state in (TaskState.COMPLETED, TaskState.SKIPPED):
        return Standing.WELL
    if row.state not in ENDED:
        return Standing.PENDING
    node = draft.node(name)
    alone = Standing.WELL if node.goes_on else Standing.FATAL
    if row.state is TaskState.CANCELLED or node.fallback is None:
        return alone
    if draft.row(node.fallback).state is TaskState.SKIPPED:
        return alone
    behind = standing(draft, node.fallback)
    return alone if behind is Standing.FATAL else behind


def made_ready(draft: Draft, task: Task, *, at: int, **values: Any) -> Task:
    """Have a task that may be claimed from a time on; its time to be over begins with that."""
    close_by = at + draft.node(task.node).schedule_to_close
    return draft.change(
        task,
        state=TaskState.READY,
        ready_at=at,
        close_by=close_by,
        # Nobody is to look at what is paused.
        deadline_at=None if draft.is_paused else close_by,
        **values,
    )


def cancelled(draft: Draft, task: Task) -> Task:
    """Have a task that is not to be done any more; who works on it is told so."""
    return draft.change(
        task,
        state=TaskState.CANCELLED,
        ready_at=None,
        deadline_at=None,
        ended_at=draft.now,
        stopped=task.state in OPEN and task.agent_id is not None,
    )


# --- one node ------------------------------------------------------------------------------------


def _begin(draft: Draft, node: Node, row: Task) -> Task:
    """Begin a node where everything that it waits for has come about."""
    if any(standing(draft, name) is not Standing.WELL for name in node.predecessors):
        return row
    if node.stands_in_for:
        states = [draft.row(name).state for name in node.stands_in_for]
        if not all(state in ENDED for state in states):
            return row
        if TaskState.FAILED not in states:
            return _ended(draft, row, TaskState.SKIPPED)
    try:
        asked = reckoning_of(draft, node)
        if not is_wanted(node, asked):
            return _ended(draft, row, TaskState.SKIPPED)
        found = items_of(node, asked)
        if found is not None:
            return _spread(draft, node, row, found, asked)
        parameters = parameters_of(draft, node, asked)
    except ExpressionFailed as error:
        return _refused(draft, row, error)
    return made_ready(draft, row, at=_when(draft, node), parameters=parameters)


def _when(draft: Draft, node: Node) -> int:
    task = node.definition
    at = draft.starts_at + (task.delay or 0)
    if task.run_at is not None:
        at = max(at, to_micros(task.run_at))
    return min(at, LATEST)


def _spread(draft: Draft, node: Node, row: Task, found: list[Any], asked: Reckoning) -> Task:
    if len(found) > MAX_ITEMS:
        raise ExpressionFailed(
            f"forEach {node.definition.for_each!r} gives {len(found):,} items; at most "
            f"{MAX_ITEMS:,} are taken. Give a task several of them at a time.",
            task=node.name,
        )
    # All are filled in before the first one is made: either all items can be given out, or none.
    given: list[str] = []
    size = 0
    for index, item in enumerate(found):
        given.append(parameters_of(draft, node, asked, item=item, index=index))
        size += len(given[-1])
        if size > MAX_SIZE:
            raise ExpressionFailed(
                f"The parameters of the items of {node.name!r} come to more than {MAX_SIZE:,} "
                "characters. Give each item what it needs alone, or a reference to it.",
                task=node.name,
            )
    if not given:
        return _ended(draft, row, TaskState.COMPLETED, result="[]")
    at = _when(draft, node)
    for index, parameters in enumerate(given):
        item = row._replace(task_id=f"{row.task_id}-{index}", item=index, created_at=draft.now)
        made_ready(draft, item, at=at, parameters=parameters)
    return draft.change(row, state=TaskState.RUNNING, started_at=draft.now)


def _gathered(draft: Draft, node: Node, row: Task) -> Task:
    """End a node whose items have ended, or one of which has failed for it."""
    items = draft.items(node.name)
    if not items:
        return row
    if not node.goes_on:
        broken = next((item for item in items if item.state in _BROKEN), None)
        if broken is not None:
            for item in items:
                if item.state not in ENDED:
                    cancelled(draft, item)
            error = broken.error or as_json(
                {"type": "ItemCancelled", "message": f"Item {broken.item} was cancelled."}
            )
            return _ended(draft, row, TaskState.FAILED, error=error)
    if any(item.state not in ENDED for item in items):
        return row
    if sum(len(item.result or "") for item in items) > MAX_SIZE:
        error = as_json(
            {
                "type": "ResultsTooLarge",
                "message": f"The results of the items come to more than {MAX_SIZE:,} characters; "
                "have each return a reference to what is large.",
            }
        )
        return _ended(draft, row, TaskState.FAILED, error=error)
    result = f"[{','.join(item.result or 'null' for item in items)}]"
    lost = next((i.error for i in items if i.state is TaskState.COMPLETED and i.error), None)
    return _ended(draft, row, TaskState.COMPLETED, result=result, error=lost)


def _refused(draft: Draft, row: Task, error: ExpressionFailed) -> Task:
    told = as_json({"type": "ExpressionFailed", "message": error.message})
    return _ended(draft, row, TaskState.FAILED, error=told)


def _ended(
    draft: Draft,
    row: Task,
    state: TaskState,
    *,
    result: str | None = None,
    error: str | None = None,
) -> Task:
    return draft.change(
        row,
        state=state,
        result=result,
        error=error,
        ready_at=None,
        deadline_at=None,
        ended_at=draft.now,
    )


# --- what it means for others --------------------------------------------------------------------


def _affected(draft: Draft, name: str) -> list[str]:
    """Return the nodes to look at once a node has ended."""
    found: list[str] = []
    todo = [name]
    while todo:
        node = draft.node(todo.pop())
        found += node.successors
        if node.fallback is not None:
            found.append(node.fallback)
        # Who waits for a task waits for those that stand in for it.
        todo += [one for one in node.stands_in_for if draft.row(one).state is TaskState.FAILED]
    return found


def _doomed(draft: Draft, name: str) -> str | None:
    """Return the node for which the session fails, now that this one has ended."""
    node = draft.node(name)
    if not node.stands_in_for:
        return name if standing(draft, name) is Standing.FATAL else None
    for one in node.stands_in_for:
        if draft.row(one).state is TaskState.FAILED:
            doomed = _doomed(draft, one)
            if doomed is not None:
                return doomed
    return None


def _fail(draft: Draft, name: str) -> None:
    """End the session for a node; what has not ended is cancelled."""
    for task in list(draft.tasks.values()):
        if task.state not in ENDED:
            cancelled(draft, task)
    draft.turn(SessionState.FAILED, error=_reason(draft, name))


def _reason(draft: Draft, name: str) -> str:
    row = draft.row(name)
    node = draft.node(name)
    while row.state is TaskState.FAILED and node.fallback is not None:
        behind = draft.row(node.fallback)
        if behind.state not in (TaskState.FAILED, TaskState.CANCELLED):
            break
        row, node = behind, draft.node(node.fallback)
    how = "failed" if row.state is TaskState.FAILED else "was cancelled"
    head = as_json(
        {
            "type": "TaskFailed" if row.state is TaskState.FAILED else "TaskCancelled",
            "message": f"Task {row.node!r} {how}.",
            "taskId": row.task_id,
            "node": row.node,
        }
    )
    return f'{head[:-1]},"cause":{row.error or "null"}}}'


def _conclude(draft: Draft) -> None:
    """End the session: nothing is left that anything could come of."""
    rows = draft.rows()
    for row in rows:
        if row.state in _BROKEN:
            doomed = _doomed(draft, row.node)
            if doomed is not None:
                _fail(draft, doomed)
                return
    pairs = []
    for row in rows:
        if row.state is TaskState.WAITING:
            _ended(draft, row, TaskState.SKIPPED)
        result = result_of(draft, row.node) if row.state in _BROKEN else row.result
        pairs.append(f"{draft.node(row.node).key}:{result or 'null'}")
    draft.turn(SessionState.COMPLETED, result=f"{{{','.join(pairs)}}}")
