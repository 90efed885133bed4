"""`opscore watch`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from opscore_middleware.cli.checks import checked
from opscore_middleware.cli.names import agent_id_of
from opscore_middleware.cli.options import ApiKey, ApiUrl
from opscore_middleware.cli.output import details, state_text
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.watch import AgentEvent, WatchQuery

__all__ = ["watch"]


def watch(
    agent: Annotated[
        str | None, typer.Option(help="Only of the agent with this id or name.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only of agents with this name.")] = None,
    state: Annotated[str | None, typer.Option(help="Only changes to this state.")] = None,
    capability: Annotated[str | None, typer.Option(help="Only of agents that can do this.")] = None,
    since: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="EVENT_ID",
            help="Begin after this event, 0 for the first there is; else from now on.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, for programs.")
    ] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show what agents report as it comes, until Ctrl-C.

    Goes on by itself where it was when Ops-Core was away.

    Examples:

    \b
      opscore watch
      opscore watch --state error
      opscore watch --agent summarizer --since 0 --json
    """
    query = checked(WatchQuery, name=name, state=state, capability=capability, after=since)
    console = Console(soft_wrap=True, highlight=False)
    try:
        with OpsCoreClient(api_url, api_key) as client:
            if agent is not None:
                query = query.model_copy(update={"agent_id": agent_id_of(client, agent)})
            for event in client.watch(query):
                if as_json:
                    typer.echo(event.model_dump_json(by_alias=True))
                else:
                    console.print(_line(event))
    except KeyboardInterrupt:
        # The way to end it, so nothing went wrong.
        return


def _line(event: AgentEvent) -> Text:
    clock = event.received_at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    line = Text.assemble(
        (f"{clock}  ", "dim"), f"{event.agent_name}  ", state_text(event.state), overflow="ignore"
    )
    if event.details is not None:
        line.append(f"  {details(event.details)}", "dim")
    line.append(f"  #{event.event_id}", "dim")
    return line
