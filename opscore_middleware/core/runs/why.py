"""Why a task is not running, in one sentence for a person."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Final

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.lifecycle import agent_from_record
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.records import AgentRecord
from opscore_middleware.core.runs.advancing import EngineStore
from opscore_middleware.core.runs.availability import is_available
from opscore_middleware.core.runs.plans import Rules
from opscore_middleware.core.runs.records import Run
from opscore_middleware.core.runs.tasks import ENDED, OPEN, Task, TaskState
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.core.workflows.definition import spelled

__all__ = ["why"]

_LOOKED_AT: Final = 100
_NAMED: Final = 5


async def why(
    task: Task, *, store: EngineStore, rules: Rules, mark: Watermark | None, now: int
) -> str:
    """Return why a task is not running, or what it is doing."""
    run = await store.get_run(task.session_id)
    if run is None:  # taken out with its session a moment ago
        return f"It is {task.state}."
    if task.state in ENDED:
        return _ended(task)
    if task.state is TaskState.RUNNING and task.agent_id is None:
        return _spread(task, run)
    if task.state in OPEN:
        return _out(task, now)
    if task.state is TaskState.WAITING:
        return _waiting(task, run, rules)
    if run.state is SessionState.PAUSED:
        return f"Its session {run.session_id!r} is paused."
    if task.ready_at is not None and task.ready_at > now:
        return _not_yet(task, run, rules, task.ready_at - now)
    return await _unclaimed(task, store, mark, now)


def _ended(task: Task) -> str:
    message = _message(task.error)
    what = "has failed" if task.state is TaskState.FAILED else f"is {task.state}"
    return f"It {what}{f': {message}' if message else '.'}"


def _spread(task: Task, run: Run) -> str:
    items = [one for one in run.tasks.values() if one.node == task.node and one.item is not None]
    ended = sum(item.state in ENDED for item in items)
    return f"It is done once for each of {len(items)} items, {ended} of which have ended."


def _out(task: Task, now: int) -> str:
    who = f"agent {task.agent_id!r}"
    if task.instance_id:
        who += f", instance {task.instance_id!r},"
    if task.state is TaskState.RUNNING:
        return f"It is running: {who} has worked on it for {_span(now, task.started_at)}."
    return (
        f"It was given to {who} {_span(now, task.dispatched_at)} ago, "
        "which has not said yet that it has begun."
    )


def _waiting(task: Task, run: Run, rules: Rules) -> str:
    node = rules.plan(run).nodes[task.node]
    rows = {one.node: one for one in run.tasks.values() if one.item is None}
    pending = [name for name in node.predecessors if rows[name].state not in ENDED]
    # A task whose fallback is under way is over for nobody.
    pending += [
        fallback
        for name in node.predecessors
        if rows[name].state is TaskState.FAILED
        and (fallback := rules.plan(run).nodes[name].fallback) is not None
        and rows[fallback].state not in ENDED
    ]
    if pending:
        return f"It waits for {_listed([f'{name} ({rows[name].state})' for name in pending])}."
    if node.stands_in_for:
        return f"It is done only if {_listed(node.stands_in_for, 'or')} fails."
    return "It waits for a task that failed."


def _not_yet(task: Task, run: Run, rules: Rules, wait: int) -> str:
    if task.attempt == 0:
        return f"It is to begin in {_rounded(wait)}."
    message = _message(task.error)
    told = f": {message}" if message else "."
    if task.spent == 0:
        return f"It is given out again in {_rounded(wait)}, no attempt being spent{told}"
    most = rules.plan(run).nodes[task.node].retry.maximum_attempts
    return f"Retry in {_rounded(wait)}, after {task.spent} of {most} attempts failed{told}"


async def _unclaimed(task: Task, store: EngineStore, mark: Watermark | None, now: int) -> str:
    if task.pinned is not None:
        record = await store.get_agent(task.pinned)
        if record is None:
            return f"It is for agent {task.pinned!r}, and no agent with that id is registered."
        return await _pinned(record, store, mark, now)
    agent_ids = await store.candidates(pinned=None, capability=task.capability)
    if not agent_ids:
        return f"No agent has capability {task.capability!r}."
    records = [await store.get_agent(agent_id) for agent_id in agent_ids[:_LOOKED_AT]]
    known = [record for record in records if record is not None]
    held = await _held(store, known)
    states = Counter(_state(record, held, mark, now) for record in known)
    if states["free"]:
        return (
            f"{_agents(states['free'])} with capability {task.capability!r} free to take it: it is "
            "about to be given out, or others go first."
        )
    more = "More than " if len(agent_ids) > _LOOKED_AT else ""
    have = "agent has" if len(known) == 1 else "agents have"
    if len(states) == 1:
        (only,) = states
        tail = f"all {only}" if len(known) > 1 else f"and it is {only}"
    else:
        tail = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return f"{more}{len(known)} {have} capability {task.capability!r}, {tail}."


async def _pinned(record: AgentRecord, store: EngineStore, mark: Watermark | None, now: int) -> str:
    name = f"It is for agent {record.agent_id!r}, which"
    if record.deregistered_at is not None:
        return f"{name} was deregistered."
    state = _state(record, await _held(store, [record]), mark, now)
    if state == "free":
        return f"{name} is free to take it: it is about to be given out, or others go first."
    if state == "lost":
        seen = max(instance.last_seen_at for instance in record.instances)
        return f"{name} has been lost for {_span(now, seen)}."
    return f"{name} is {state}."


def _state(
    record: AgentRecord, held: frozenset[tuple[str, str]], mark: Watermark | None, now: int
) -> str:
    """Return whether an agent is free, else why it is not, in a word or two."""
    if record.deregistered_at is not None:
        return "deregistered"
    if not any(instance.state != "UNKNOWN" for instance in record.instances):
        return "silent so far"
    free = [one for one in record.instances if is_available(one, mark, now)]
    if free and not any(one.contact_endpoint or record.contact_endpoint for one in free):
        return "without a contactEndpoint to send it to"
    if any((record.agent_id, one.instance_id or "") not in held for one in free):
        return "free"
    if free:
        return "busy with another task"
    agent = agent_from_record(record, mark)
    if agent.lost:
        return "lost"
    return agent.state if agent.state != "idle" else "late with a heartbeat"


async def _held(store: EngineStore, records: Sequence[AgentRecord]) -> frozenset[tuple[str, str]]:
    tasks = await store.open_tasks([record.agent_id for record in records])
    return frozenset((task.agent_id or "", task.instance_id or "") for task in tasks)


def _agents(count: int) -> str:
    return "An agent" if count == 1 else f"{count} agents"


def _listed(names: Sequence[str], word: str = "and") -> str:
    shown = list(names[:_NAMED])
    if len(names) > _NAMED:
        shown.append(f"{len(names) - _NAMED} others")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {word} {shown[-1]}"


def _message(error: str | None) -> str | None:
    if error is None:
        return None
    said = json.loads(error)
    message = said.get("message") if isinstance(said, dict) else None
    return str(message) if message else None


def _span(now: int, since: int | None) -> str:
    return _rounded(max(now - (since or now), 0))


def _rounded(micros: int) -> str:
    """Return a span as people say it: whole seconds, minutes from a few on, hours from a few on."""
    for unit, most in ((SECOND, 300), (60 * SECOND, 300), (3600 * SECOND, 0)):
        count = round(micros / unit)
        if not most or count < most:
            return spelled(max(count, 1) * unit if micros else 0)
    return spelled(micros)
