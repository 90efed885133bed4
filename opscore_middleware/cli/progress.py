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

from opscore_middleware.cli.output import ago, state_text, table_of, visible
from opscore_middleware.cli.patience import answered, pauses
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.runs.tasks import ENDED
from opscore_middleware.core.runs.views import SessionView, TaskQuery, TaskView
from opscore_middleware.core.sessions import TERMINAL, Session, SessionState

__all__ = ["follow_session", "nodes_of", "task_rows", "tasks_of"]

_BAR: Final = 10
_Looks = Iterator[tuple[SessionView, list[TaskView]]]


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
            _label(task),
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
    """Show how a session goes until it is over, or until Ctrl-C; return its last state.

    Goes on by itself when Ops-Core was away.
    """
    console = Console(highlight=False)
    session = client.get_session(session_id)
    nodes = nodes_of(client, session)
    show = _listing if as_json else _drawing if console.is_terminal else _telling
    try:
        return show(_looks(client, session, nodes), console)
    except KeyboardInterrupt:
        return client.get_session(session_id).state


def _looks(client: OpsCoreClient, session: SessionView, nodes: Sequence[str]) -> _Looks:
    """Go on looking at a session and its tasks, up to the look that shows its end."""
    waits = pauses()
    while True:
        yield session, answered(partial(tasks_of, client, session, nodes), waits)
        if session.state in TERMINAL:
            return
        time.sleep(next(waits))
        session = answered(partial(client.get_session, session.session_id), waits)


def _drawing(looks: _Looks, console: Console) -> SessionState:
    with Live(console=console, auto_refresh=False) as live:
        for session, tasks in looks:
            live.update(_drawn(session, tasks), refresh=True)
    return session.state


def _telling(looks: _Looks, console: Console) -> SessionState:
    """Print one line for each change, where nothing can be drawn anew."""
    told: dict[str, str] = {}
    for session, tasks in looks:
        for task in tasks:
            if told.get(task.task_id) != task.state:
                console.print(f"{_label(task)}: {task.state.value}", soft_wrap=True, markup=False)
            told[task.task_id] = task.state
        if told.get(session.session_id) != session.state:
            console.print(f"session: {session.state.value}", soft_wrap=True)
        told[session.session_id] = session.state
    if session.error is not None:
        console.print(_message(session.error), soft_wrap=True, markup=False)
    return session.state


def _listing(looks: _Looks, _: Console) -> SessionState:
    """Print what has changed, a task or the session, as one JSON object a line."""
    told: dict[str, str] = {}
    for session, tasks in looks:
        for task in tasks:
            _list(told, task.task_id, task)
        _list(told, session.session_id, session)
    return session.state


def _list(told: dict[str, str], name: str, changed: TaskView | SessionView) -> None:
    line = changed.model_dump_json(by_alias=True)
    if told.get(name) != line:
        typer.echo(line)
    told[name] = line


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


def _label(task: TaskView) -> str:
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
