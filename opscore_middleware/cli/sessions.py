"""`opscore session …`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
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
    print_table,
    state_text,
)
from opscore_middleware.cli.progress import follow_session, nodes_of, task_rows, tasks_of
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.sessions import Session, SessionQuery, SessionState

__all__ = ["app"]

app = typer.Typer(
    help="See what your agents were asked to do, and steer it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SessionId = Annotated[
    str, typer.Argument(help="The session's id, as `opscore session list` shows it.")
]


@app.command("list")
def list_sessions(
    agent: Annotated[
        str | None, typer.Option(help="Only those of the agent with this id or name.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(help="started, running, paused, completed, failed or cancelled."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, newest first.")] = 100,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """List the sessions, newest first.

    Examples:

    \b
      opscore session list
      opscore session list --state failed --limit 10
    """
    query = checked(SessionQuery, state=state, limit=min(limit, 1000))
    with OpsCoreClient(api_url, api_key) as client:
        if agent is not None:
            query = query.model_copy(update={"agent_id": agent_id_of(client, agent)})
        found = list(islice(client.iter_sessions(query), limit))
    columns = ("SESSION", "STATE", "STARTED", "WORKFLOW", "AGENT")
    print_list(found, columns, _row, none="No sessions.", as_json=as_json)


@app.command()
def show(
    session_id: SessionId,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show one session and its tasks.

    Examples:

    \b
      opscore session show 81d2...
    """
    with OpsCoreClient(api_url, api_key) as client:
        session = client.get_session(session_id)
        tasks = [] if as_json else tasks_of(client, session, nodes_of(client, session))
    if as_json:
        print_json(session)
        return
    _print_session(session)
    if tasks:
        typer.echo()
        columns = ("TASK", "STATE", "PROGRESS", "AGENT", "ATTEMPT", "SINCE", "ID")
        print_table(columns, task_rows(tasks, datetime.now(UTC)))


@app.command()
def cancel(
    session_id: SessionId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """End a session and its tasks for good; agents that work on them are told.

    Examples:

    \b
      opscore session cancel 81d2...
      opscore session cancel 81d2... --yes
    """
    with OpsCoreClient(api_url, api_key) as client:
        if sys.stdin.isatty() and not yes:
            session = client.get_session(session_id)
            typer.confirm(f"Cancel {session_id!r}, which is {session.state}?", abort=True)
        _print_changed(client.cancel_session(session_id), as_json=as_json)


@app.command()
def pause(
    session_id: SessionId,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Give out no more tasks of a session; those that are out go on.

    Examples:

    \b
      opscore session pause 81d2...
    """
    with OpsCoreClient(api_url, api_key) as client:
        _print_changed(client.pause_session(session_id), as_json=as_json)


@app.command()
def resume(
    session_id: SessionId,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Go on with a session that was paused.

    Examples:

    \b
      opscore session resume 81d2...
    """
    with OpsCoreClient(api_url, api_key) as client:
        _print_changed(client.resume_session(session_id), as_json=as_json)


@app.command()
def retry(
    session_id: SessionId,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Try the tasks of a session again that failed, and what comes after them.

    Examples:

    \b
      opscore session retry 81d2...
    """
    with OpsCoreClient(api_url, api_key) as client:
        _print_changed(client.retry_session(session_id), as_json=as_json)


@app.command()
def watch(
    session_id: SessionId,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print each task that changes, and the session, one JSON object a line."
        ),
    ] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show how a session goes until it is over, or until Ctrl-C.

    Goes on by itself where it was when Ops-Core was away. Ends with 0 when it has completed, with 1
    when it has not. What is no terminal gets one line for each change.

    Examples:

    \b
      opscore session watch 81d2...
      opscore session watch 81d2... --json | jq -r 'select(.taskId).state'
    """
    with OpsCoreClient(api_url, api_key) as client:
        if follow_session(client, session_id, as_json=as_json) is not SessionState.COMPLETED:
            raise typer.Exit(1)


def _row(session: Session, now: datetime) -> tuple[str | Text, ...]:
    return (
        session.session_id,
        state_text(session.state),
        ago(session.created_at, now),
        session.workflow_id or "",
        session.agent_id,
    )


def _print_changed(session: Session, *, as_json: bool) -> None:
    print_changed(session.session_id, session, session.state, as_json=as_json)


def _print_session(session: Session) -> None:
    version = session.workflow_version
    print_pairs(
        [
            ("session", session.session_id),
            ("state", state_text(session.state)),
            ("agent", session.agent_id),
            (
                "workflow",
                (session.workflow_id or "") + ("" if version is None else f", version {version}"),
            ),
            ("payload", details(session.initial_payload)),
            ("started", moment(session.created_at)),
            ("changed", moment(session.updated_at)),
            ("ended", moment(session.ended_at)),
            ("result", details(session.result)),
            ("error", details(session.error)),
            ("metadata", details(session.metadata)),
        ]
    )
