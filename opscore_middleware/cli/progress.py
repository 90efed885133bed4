"""How a session goes, as it goes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from opscore_middleware.cli.output import ago, state_text, table_of
from opscore_middleware.cli.patience import patiently
from opscore_middleware.cli.printable import visible
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.runs.tasks import ENDED
from opscore_middleware.core.runs.views import SessionView, TaskQuery, TaskView
from opscore_middleware.core.sessions import TERMINAL, Session, SessionState

__all__ = ["follow_session", "nodes_of", "pauses", "task_label", "task_rows", "tasks_of"]

_SOONEST: Final = 0.2
_LATEST: Final = 1.0
_SLOWER: Final = 1.1
_BAR: Final = 10

Look = tuple[SessionView, Sequence[TaskView]]
"""A session and its tasks, as they were at one time."""


def nodes_of(client: OpsCoreClient, session: Session) -> list[str]:
    """Return the tasks of a session's definition, in its order; none where it runs no workflow."""
    if session.workflow_id is None or session.workflow_version is None:
        return []
    kept = client.get_workflow(session.workflow_id, version=session.workflow_version)
    return [task["taskId"] for task in kept.definition["tasks"]]


def tasks_of(client: OpsCoreClient, session: Session, nodes: Sequence[str]) -> list[TaskView]:
    """Return a session's tasks in the order of its definition, items after their task."""
    if not nodes:
        return []
    rank = {node: place for place, node in enumerate(nodes)}

    def place(task: TaskView) -> tuple[int, int]:
        return rank[task.node], -1 if task.item is None else task.item

    query = TaskQuery(session_id=session.session_id, limit=1000)
    return sorted(client.iter_tasks(query), key=place)


def task_rows(tasks: Iterable[TaskView], now: datetime) -> list[tuple[str | Text, ...]]:
    """Return tasks as rows: which, its state, how far it is, who has it, since when."""
    return [
        (
            task_label(task),
            state_text(task.state),
            _how_far(task),
            task.assigned_agent_id or task.agent_id or task.agent_capability or "",
            str(task.attempt or ""),
            ago(_since(task), now),
            task.task_id,
        )
        for task in tasks
    ]


def follow_session(
    client: OpsCoreClient, session_id: str, *, as_json: bool = False
) -> SessionState:
    """Show how a session goes until it is over, or until Ctrl-C; return its last state."""
    console = Console(highlight=False)
    session = client.get_session(session_id)
    nodes = nodes_of(client, session)
    show = _listing if as_json else _drawing if console.is_terminal else _telling
    try:
        return show(session, _looks(client, session, nodes), console)
    except KeyboardInterrupt:
        return client.get_session(session_id).state


def pauses() -> Iterator[float]:
    """Yield the seconds until each next look: fewer at first, since much is soon over."""
    pause = _SOONEST
    while True:
        yield pause
        pause = min(_SLOWER * pause, _LATEST)


def _looks(client: OpsCoreClient, session: SessionView, nodes: Sequence[str]) -> Iterator[Look]:
    """Yield a session and its tasks, again and again until it is over."""
    waits = pauses()
    while True:
        yield session, patiently(partial(tasks_of, client, session, nodes))
        if session.state in TERMINAL:
            return
        time.sleep(next(waits))
        session = patiently(partial(client.get_session, session.session_id))


def _drawing(session: SessionView, looks: Iterable[Look], console: Console) -> SessionState:
    """Draw it anew with each look."""
    with Live(console=console, auto_refresh=False) as live:
        for session, tasks in looks:
            live.update(_drawn(session, tasks), refresh=True)
    return session.state


def _telling(session: SessionView, looks: Iterable[Look], console: Console) -> SessionState:
    """Print one line for each change, where nothing can be drawn anew."""
    told: dict[str, str] = {}
    for session, tasks in looks:
        lines = [(task.task_id, f"{task_label(task)}: {task.state.value}") for task in tasks]
        for name, line in (*lines, (session.session_id, f"session: {session.state.value}")):
            if told.get(name) != line:
                console.print(line, soft_wrap=True, markup=False)
            told[name] = line
    if session.error is not None:
        console.print(_message(session.error), soft_wrap=True, markup=False)
    return session.state


def _listing(session: SessionView, looks: Iterable[Look], _: Console) -> SessionState:
    """Print what has changed, a task or the session, as one JSON object a line."""
    told: dict[str, str] = {}
    for session, tasks in looks:
        for name, changed in (*((t.task_id, t) for t in tasks), (session.session_id, session)):
            line = changed.model_dump_json(by_alias=True)
            if told.get(name) != line:
                typer.echo(line)
            told[name] = line
    return session.state


def _drawn(session: SessionView, tasks: Sequence[TaskView]) -> Group:
    now = datetime.now(UTC)
    head = Text.assemble(f"session {session.session_id}  ", state_text(session.state))
    if session.progress is not None:
        over = sum(session.progress[state] for state in ENDED)
        head.append(f"  {over} of {session.progress['total']} tasks are over")
    columns = ("TASK", "STATE", "PROGRESS", "AGENT", "ATTEMPT", "SINCE", "ID")
    table = table_of(columns, task_rows(tasks, now))
    lines: list[Text | Table] = [head, table]
    if session.error is not None:
        lines.append(Text(_message(session.error), style="red"))
    return Group(*lines)


def task_label(task: TaskView) -> str:
    """Return which task of its definition it is, and which item of that."""
    return task.node if task.item is None else f"{task.node}[{task.item}]"


def _how_far(task: TaskView) -> str:
    if task.progress is None:
        return task.progress_message or ""
    full = round(task.progress * _BAR)
    bar = "█" * full + "░" * (_BAR - full)
    return " ".join(filter(None, (bar, f"{task.progress:.0%}", task.progress_message)))


def _since(task: TaskView) -> datetime:
    return task.ended_at or task.started_at or task.dispatched_at or task.created_at


def _message(error: Mapping[str, Any]) -> str:
    """Return what a session failed for, and what was behind that."""
    cause = error.get("cause")
    behind = cause.get("message") if isinstance(cause, Mapping) else None
    parts = [str(part) for part in (error.get("message"), behind) if part]
    return visible(" ".join(parts) or str(error))
