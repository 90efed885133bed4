"""What an agent's report means for the attempt that it has: what it names, what can be inferred."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Run, Word
from opscore_middleware.core.runs.steps.attempts import (
    FINAL_STATUSES,
    LATER_STATUSES,
    begin,
    complete,
    fail,
    open_attempt,
    put_off,
)
from opscore_middleware.core.runs.steps.draft import Draft
from opscore_middleware.core.runs.steps.filling import as_known_json
from opscore_middleware.core.runs.tasks import Task, TaskState, split_attempt_id
from opscore_middleware.core.states import AgentState

__all__ = ["Said", "heard", "inferred", "said_of"]

_MARK: Final = "opscore_task_id"
_RESULT: Final = "opscore_task_result"
_RESULT_DROPPED: Final = {
    "type": "ResultDropped",
    "message": "The task is done, but its agent has dropped the result: it is larger than the "
    "64 KiB that a report carries, or too much of the kind waited while Ops-Core was away. Have "
    "the agent return a reference to what is large.",
}
_INTERRUPTED: Final = {
    "type": "RequestInterrupted",
    "message": "The request that brought the task ended before it was answered: its client had "
    "left, or the agent cancelled it.",
}
_NOTHING_SAID: Final = {"type": "AgentError", "message": "The agent reported an error."}


class Said(NamedTuple):
    """What a report's details say of the attempt that they name."""

    task_id: str
    attempt: int
    details: dict[str, Any]


def said_of(details: str | None) -> Said | None:
    """Return what details say of an attempt; None where they name none."""
    if details is None or _MARK not in details:
        return None
    said = _read(details)
    named = said.get(_MARK)
    if not isinstance(named, str):
        return None
    task_id, attempt = split_attempt_id(named)
    return None if attempt is None else Said(task_id, attempt, said)


def heard(run: Run, *, rules: Rules, word: Word, said: Said, now: int) -> Run:
    """Do what an agent says of an attempt by its id, if that is open, and the agent's.

    Our middleware says how a task ended; of what it says else, all means that it was begun. A raw
    report says it by its state: `idle` after `active` is the end, `idle` without it an
    acknowledgement, from which on the agent has as long as if it had begun; `error` is a failure.

    That it is done counts for the latest attempt even after Ops-Core has given up on it, as long
    as no other was given out: nobody has to do it again.
    """
    told = said.details.get("opscore_task_state")
    has_result = _RESULT in said.details
    task = open_attempt(run.tasks, said.task_id, said.attempt)
    if task is None and told == "completed":
        task = _given_up(run, said)
    if task is None and told is None and word.state == AgentState.ACTIVE:
        return _stopped_elsewhere(run, word, said)
    if task is None or task.agent_id != word.agent_id:
        return run
    is_error = word.state == AgentState.ERROR
    draft = Draft(run, rules, now)
    if told == "failed" or (told != "completed" and is_error and (has_result or _is_raw(word))):
        _failed(draft, _at_home(draft, task, word), said.details)
    elif told == "interrupted":
        fail(draft, _at_home(draft, task, word), dict(_INTERRUPTED))
    elif told == "completed" or has_result:
        _completed(draft, _at_home(draft, task, word), said.details)
    elif word.state != AgentState.IDLE or not _is_raw(word):
        _began(draft, task, word)
    elif task.state is TaskState.RUNNING:
        complete(draft, task, None)
    else:
        _acknowledged(draft, task)
    return draft.done()


def inferred(run: Run, *, rules: Rules, word: Word, task_id: str, attempt: int, now: int) -> Run:
    """Do what can be inferred from a report of an agent that never names what it works on.

    The first `active` after an attempt went out is its beginning, `idle` or `error` after that its
    end; what was said before it went out says nothing of it.
    """
    task = open_attempt(run.tasks, task_id, attempt)
    if task is None or task.agent_id != word.agent_id:
        return run
    if task.dispatched_at is None or word.received_at < task.dispatched_at:
        return run
    draft = Draft(run, rules, now)
    if task.state is TaskState.DISPATCHED:
        if word.state != AgentState.ACTIVE:
            return run
        begin(draft, task, instance_id=None, inferred=True)
    elif word.state == AgentState.IDLE:
        complete(draft, task, None, inferred=True)
    elif word.state == AgentState.ERROR:
        error = _error_of(_read(word.details))
        fail(draft, task, error, inferred=True)
    return draft.done()


def _is_raw(word: Word) -> bool:
    return word.sequence is None


def _given_up(run: Run, said: Said) -> Task | None:
    """Return the task whose latest attempt this is, where it was taken back to be given anew."""
    task = run.tasks.get(said.task_id)
    if task is None or task.attempt != said.attempt or task.state is not TaskState.READY:
        return None
    return task if task.stopped else None


def _stopped_elsewhere(run: Run, word: Word, said: Said) -> Run:
    """Note which instance works on an attempt that is to be stopped: behind an endpoint that
    several share, it may be another than the one that would be told so."""
    task = run.tasks.get(said.task_id)
    if task is None or task.attempt != said.attempt or task.agent_id != word.agent_id:
        return run
    if not task.stopped or not word.instance_id or task.instance_id == word.instance_id:
        return run
    there = task._replace(instance_id=word.instance_id)
    return run._replace(tasks={**run.tasks, task.task_id: there})


def _began(draft: Draft, task: Task, word: Word) -> None:
    """Note that an attempt was begun, and by which instance of its agent."""
    if task.state is TaskState.DISPATCHED:
        begin(draft, task, instance_id=word.instance_id or None)
    else:
        _at_home(draft, task, word)


def _at_home(draft: Draft, task: Task, word: Word) -> Task:
    """Have an attempt in the slot of the instance that speaks of it: behind an endpoint that
    several share, it may be another than the one that was thought of."""
    if word.instance_id and task.instance_id != word.instance_id:
        return draft.change(task, instance_id=word.instance_id)
    return task


def _acknowledged(draft: Draft, task: Task) -> None:
    """Give an attempt the time that one has that was begun: its agent has got it."""
    until = (task.dispatched_at or draft.now) + draft.node(task.node).start_to_close
    if task.close_by is not None:
        until = min(until, task.close_by)
    if not task.rerouted or task.deadline_at != until:
        draft.change(task, rerouted=True, deadline_at=until)


def _completed(draft: Draft, task: Task, said: dict[str, Any]) -> None:
    if _RESULT in said:
        complete(draft, task, as_known_json(said[_RESULT]))
    else:
        dropped = said.get("opscore_task_result_dropped") is True
        complete(draft, task, None, lost=_RESULT_DROPPED if dropped else None)


def _failed(draft: Draft, task: Task, said: dict[str, Any]) -> None:
    status = said.get("opscore_task_status")
    status = status if isinstance(status, int) and not isinstance(status, bool) else None
    error = _error_of(said, status)
    if status in LATER_STATUSES:
        put_off(draft, task, error, retry_after=_seconds(said.get("opscore_task_retry_after")))
    else:
        fail(draft, task, error, final=status in FINAL_STATUSES)


def _error_of(said: dict[str, Any], status: int | None = None) -> dict[str, Any]:
    error = said.get("error")
    if isinstance(error, str) and error:
        error = {"type": "AgentError", "message": error}
    if not isinstance(error, dict) or not error:
        error = dict(_NOTHING_SAID)
        if status is not None:
            error["message"] = f"The agent answered the task with status {status}."
    return error if status is None else {**error, "status": status}


def _seconds(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return value  # as it is: a float cannot be as large as a number in JSON
    return None


def _read(details: str | None) -> dict[str, Any]:
    try:
        said = json.loads(details or "{}")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
