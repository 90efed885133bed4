"""`opscore agents …`."""

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
    print_json,
    print_list,
    print_pairs,
    print_table,
    state_text,
)
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import (
    Agent,
    AgentQuery,
    HistoryQuery,
    Liveness,
    Registration,
    Transition,
)

__all__ = ["app"]

app = typer.Typer(
    help="See your agents and make them known.", no_args_is_help=True, rich_markup_mode=None
)

Named = Annotated[
    str, typer.Argument(help="The agent's id or name, as `opscore agents list` shows them.")
]


@app.command("list")
def list_agents(
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    name: Annotated[str | None, typer.Option(help="Only those with exactly this name.")] = None,
    capability: Annotated[str | None, typer.Option(help="Only those that can do this.")] = None,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """List the agents with their states.

    Examples:

    \b
      opscore agents list
      opscore agents list --state error
      opscore agents list --capability summarize --json
    """
    query = checked(AgentQuery, state=state, name=name, capability=capability)
    with OpsCoreClient(api_url, api_key) as client:
        found = list(client.iter_agents(query))
    columns = ("NAME", "STATE", "SINCE", "CAPABILITIES", "ID")
    print_list(found, columns, _row, none="No agents.", as_json=as_json)


@app.command()
def show(
    agent: Named,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show one agent and its instances.

    Example:

    \b
      opscore agents show summarizer
    """
    with OpsCoreClient(api_url, api_key) as client:
        found = client.get_agent(agent_id_of(client, agent))
    if as_json:
        print_json(found)
    else:
        _print_agent(found, datetime.now(UTC))


@app.command()
def history(
    agent: Named,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, newest first.")] = 20,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show what an agent went through, newest first.

    Examples:

    \b
      opscore agents history summarizer
      opscore agents history 4f0c... --limit 500 --json
    """
    with OpsCoreClient(api_url, api_key) as client:
        query = HistoryQuery(limit=min(limit, 1000))
        agent_id = agent_id_of(client, agent)
        transitions = list(islice(client.iter_history(agent_id, query), limit))
    columns = ("TIME", "STATE", "SEQUENCE", "INSTANCE", "DETAILS")
    print_list(transitions, columns, _line, none="No transitions.", as_json=as_json)


@app.command()
def register(
    name: Annotated[str, typer.Argument(help="The same name gets the same id again.")],
    capability: Annotated[
        list[str] | None, typer.Option(help="What it can do; give it once for each.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="The http or https address that it takes tasks at.")
    ] = None,
    agent_version: Annotated[str | None, typer.Option("--version", help="The agent's own.")] = None,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Make an agent known, and print its id.

    Example:

    \b
      opscore agents register summarizer --capability summarize --endpoint http://10.0.0.7/task
    """
    registration = checked(
        Registration,
        arguments={"agent_name"},
        agent_name=name,
        version=agent_version,
        capabilities=capability,
        contact_endpoint=endpoint,
    )
    with OpsCoreClient(api_url, api_key) as client:
        agent = client.register_agent(registration)
    if as_json:
        print_json(agent)
    else:
        typer.echo(agent.agent_id)


@app.command()
def deregister(
    agent: Named,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Take an agent out: it cannot report until it is registered again. Its history stays.

    Examples:

    \b
      opscore agents deregister 4f0c...
      opscore agents deregister 4f0c... --yes
    """
    with OpsCoreClient(api_url, api_key) as client:
        agent_id = agent_id_of(client, agent)
        if sys.stdin.isatty() and not yes:
            found = client.get_agent(agent_id)
            typer.confirm(f"Take out {found.agent_name!r}, which is {found.state}?", abort=True)
        client.deregister_agent(agent_id)
    typer.echo(f"{agent_id} is deregistered.")


def _row(agent: Agent, now: datetime) -> tuple[str | Text, ...]:
    return (
        agent.agent_name,
        state_text(agent.state, lost=agent.lost),
        ago(agent.timestamp, now),
        ", ".join(agent.capabilities),
        agent.agent_id,
    )


def _line(transition: Transition, _now: datetime) -> tuple[str | Text, ...]:
    return (
        transition.timestamp.isoformat(timespec="milliseconds"),
        state_text(transition.state),
        "" if transition.sequence is None else str(transition.sequence),
        transition.instance_id or "",
        details(transition.details),
    )


def _print_agent(agent: Agent, now: datetime) -> None:
    print_pairs(
        [
            ("id", agent.agent_id),
            ("name", agent.agent_name),
            ("version", agent.version),
            ("state", state_text(agent.state, lost=agent.lost)),
            (
                "since",
                f"{agent.timestamp.isoformat(timespec='seconds')} ({ago(agent.timestamp, now)})",
            ),
            ("details", details(agent.details)),
            ("capabilities", ", ".join(agent.capabilities)),
            ("endpoint", agent.contact_endpoint or ""),
            ("registered", agent.registered_at.isoformat(timespec="seconds")),
            ("metadata", details(agent.metadata)),
        ]
    )
    if agent.instances:
        typer.echo()
        print_table(
            ("INSTANCE", "STATE", "SEQUENCE", "LAST SEEN", "ENDPOINT"),
            (
                (
                    instance.instance_id or "(none)",
                    state_text(instance.state, lost=instance.liveness is Liveness.LOST),
                    "" if instance.sequence is None else str(instance.sequence),
                    ago(instance.last_seen_at, now),
                    instance.contact_endpoint or "",
                )
                for instance in agent.instances
            ),
        )
