"""`opscore sessions …`."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from opscore_middleware.cli.checks import checked
from opscore_middleware.cli.options import ApiKey, ApiUrl, AsJson
from opscore_middleware.cli.output import ago, details, print_json, print_pairs, print_table
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.sessions import SessionQuery

__all__ = ["app"]

app = typer.Typer(help="See what your agents were asked to do.", no_args_is_help=True)


@app.command("list")
def list_sessions(
    agent: Annotated[str | None, typer.Option(help="Only those of the agent with this id.")] = None,
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
      opscore sessions list
      opscore sessions list --state failed --limit 10
    """
    query = checked(SessionQuery, agent_id=agent, state=state, limit=min(limit, 1000))
    with OpsCoreClient(api_url, api_key) as client:
        found = list(islice(client.iter_sessions(query), limit))
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo("No sessions.", err=True)
        return
    now = datetime.now(UTC)
    print_table(
        ("SESSION", "STATE", "STARTED", "WORKFLOW", "AGENT"),
        (
            (
                session.session_id,
                session.state.value,
                ago(session.created_at, now),
                session.workflow_id or "",
                session.agent_id,
            )
            for session in found
        ),
    )


@app.command()
def show(
    session_id: Annotated[str, typer.Argument(help="As `opscore sessions list` shows it.")],
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show one session.

    Example:

    \b
      opscore sessions show 81d2...
    """
    with OpsCoreClient(api_url, api_key) as client:
        session = client.get_session(session_id)
    if as_json:
        print_json(session)
        return
    ended = session.ended_at
    print_pairs(
        [
            ("session", session.session_id),
            ("state", session.state.value),
            ("agent", session.agent_id),
            ("workflow", session.workflow_id or ""),
            ("started", session.created_at.isoformat(timespec="seconds")),
            ("changed", session.updated_at.isoformat(timespec="seconds")),
            ("ended", "" if ended is None else ended.isoformat(timespec="seconds")),
            ("result", details(session.result)),
            ("error", details(session.error)),
            ("metadata", details(session.metadata)),
        ]
    )
