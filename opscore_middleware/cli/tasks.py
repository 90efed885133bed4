"""`opscore task …`."""

from __future__ import annotations

import sys
from datetime import datetime
from itertools import islice
from typing import Annotated

import typer
from rich.text import Text

from opscore_middleware.cli.checks import checked
from opscore_middleware.cli.names import agent_id_of
from opscore_middleware.cli.options import ApiKey, ApiUrl, AsJson
from opscore_middleware.cli.output import (
    ago,
    details,
    moment,
    print_changed,
    print_json,
    print_list,
    print_pairs,
    state_text,
)
from opscore_middleware.cli.printable import visible
from opscore_middleware.cli.progress import task_label
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.runs.views import TaskQuery, TaskView
from opscore_middleware.errors import ConfigurationError

__all__ = ["app"]

app = typer.Typer(
    help="See what is to be done, by whom, and why it is not yet.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

TaskId = Annotated[str, typer.Argument(help="The task's id, as `opscore task list` shows it.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most, newest first.")]
Capability = Annotated[str | None, typer.Option(help="Only those that need this.")]
Agent = Annotated[
    str | None,
    typer.Option(help="Only those that the agent with this id or name has, had, or is to have."),
]


@app.command("list")
def list_tasks(
    session: Annotated[str | None, typer.Option(help="Only those of this session.")] = None,
    state: Annotated[
        str | None,
        typer.Option(
            help="waiting, ready, dispatched, running, completed, failed, skipped or cancelled."
        ),
    ] = None,
    agent: Agent = None,
    capability: Capability = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """List the tasks, newest first.

    Examples:

    \b
      opscore task list --state running
      opscore task list --session 81d2... --json
    """
    query = checked(
        TaskQuery,
        session_id=session,
        state=state,
        capability=capability,
        limit=min(limit, 1000),
    )
    with OpsCoreClient(api_url, api_key) as client:
        _print_tasks(client, query, agent, limit, as_json=as_json)


@app.command()
def show(
    task_id: TaskId,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show one task, what it was given and what came of it.

    Examples:

    \b
      opscore task show 5be0...
    """
    with OpsCoreClient(api_url, api_key) as client:
        task = client.get_task(task_id)
    if as_json:
        print_json(task)
    else:
        _print_task(task)


@app.command()
def why(
    task_id: TaskId,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Say in one sentence why a task is not running, or is what it is.

    Examples:

    \b
      opscore task why 5be0...
    """
    with OpsCoreClient(api_url, api_key) as client:
        reason = client.why_task(task_id)
    if as_json:
        print_json(reason)
    else:
        typer.echo(visible(reason.why))


@app.command()
def cancel(
    task_id: TaskId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """End a task for good; the agent that works on it is told.

    Examples:

    \b
      opscore task cancel 5be0...
      opscore task cancel 5be0... --yes
    """
    with OpsCoreClient(api_url, api_key) as client:
        if sys.stdin.isatty() and not yes:
            task = client.get_task(task_id)
            typer.confirm(f"Cancel {task.node!r}, which is {task.state}?", abort=True)
        _print_changed(client.cancel_task(task_id), as_json=as_json)


@app.command()
def retry(
    task_id: TaskId,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Try a task again that failed, and what comes after it.

    Examples:

    \b
      opscore task retry 5be0...
    """
    with OpsCoreClient(api_url, api_key) as client:
        _print_changed(client.retry_task(task_id), as_json=as_json)


@app.command()
def dead(
    agent: Agent = None,
    capability: Capability = None,
    limit: Limit = 100,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Try those again that sessions failed for, of all agents."),
    ] = False,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """List the tasks that failed for good, newest first, or try again what sessions failed for.

    What a session went on without stays as it is.

    Examples:

    \b
      opscore task dead
      opscore task dead --replay
    """
    with OpsCoreClient(api_url, api_key) as client:
        if replay:
            if agent is not None or capability is not None:
                raise ConfigurationError(
                    "--replay tries the dead tasks of all agents again, and takes no --agent or "
                    "--capability; try single ones with `opscore task retry`."
                )
            replayed = client.replay_dead_tasks()
            if as_json:
                print_json(replayed)
            else:
                typer.echo(f"Tasks that are tried again: {replayed.replayed}.")
            return
        query = checked(TaskQuery, dead=True, capability=capability, limit=min(limit, 1000))
        _print_tasks(client, query, agent, limit, as_json=as_json)


def _print_changed(task: TaskView, *, as_json: bool) -> None:
    print_changed(task.task_id, task, task.state, as_json=as_json)


def _print_tasks(
    client: OpsCoreClient, query: TaskQuery, agent: str | None, limit: int, *, as_json: bool
) -> None:
    if agent is not None:
        query = query.model_copy(update={"agent_id": agent_id_of(client, agent)})
    found = list(islice(client.iter_tasks(query), limit))
    columns = ("TASK", "STATE", "CREATED", "BY", "ATTEMPT", "SESSION", "ID")
    print_list(found, columns, _row, none="No tasks.", as_json=as_json)


def _row(task: TaskView, now: datetime) -> tuple[str | Text, ...]:
    return (
        task_label(task),
        state_text(task.state),
        ago(task.created_at, now),
        task.assigned_agent_id or task.agent_id or task.agent_capability or "",
        str(task.attempt or ""),
        task.session_id,
        task.task_id,
    )


def _print_task(task: TaskView) -> None:
    print_pairs(
        [
            ("id", task.task_id),
            ("task", task_label(task)),
            ("name", task.name),
            ("state", state_text(task.state)),
            ("workflow", task.workflow_id or ""),
            ("session", task.session_id),
            ("wanted", task.agent_id or task.agent_capability or ""),
            ("agent", task.assigned_agent_id or ""),
            ("instance", task.instance_id or ""),
            ("attempts", f"{task.attempt}, of which {task.attempts} count"),
            ("route", "" if task.route is None else task.route.value),
            ("created", moment(task.created_at)),
            ("dispatched", moment(task.dispatched_at)),
            ("started", moment(task.started_at)),
            ("ended", f"{moment(task.ended_at)}{' (inferred)' if task.inferred else ''}"),
            ("progress", "" if task.progress is None else f"{task.progress:.0%}"),
            ("says", task.progress_message or ""),
            ("parameters", details(task.parameters)),
            ("result", details(task.result)),
            ("error", details(task.error)),
        ]
    )
