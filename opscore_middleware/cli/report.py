"""`opscore report`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from opscore_middleware.cli.checks import checked, json_object
from opscore_middleware.cli.names import id_by_name
from opscore_middleware.cli.options import ApiKey, ApiUrl, AsJson
from opscore_middleware.cli.output import print_json
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import StateAccepted, StateReport
from opscore_middleware.errors import RemoteError

__all__ = ["report"]


def report(
    agent: Annotated[str, typer.Argument(help="The agent that it is about, by its id or name.")],
    state: Annotated[
        str, typer.Argument(help="initializing, idle, active, error, draining or finished.")
    ],
    details: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object that says more.")
    ] = None,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Report the state of an agent by hand.

    Examples:

    \b
      opscore report summarizer idle
      opscore report summarizer error --details '{"message": "out of quota"}'
    """
    told = checked(
        StateReport,
        arguments={"agent_id", "state"},
        agent_id=agent,
        state=state,
        details=json_object(details, option="--details"),
        timestamp=datetime.now(UTC),
    )
    with OpsCoreClient(api_url, api_key) as client:
        answer = _reported(client, told)
    if as_json:
        print_json(answer)
    else:
        typer.echo(answer.message)


def _reported(client: OpsCoreClient, told: StateReport) -> StateAccepted:
    try:
        return client.report_state(told)
    except RemoteError as error:
        agent_id = id_by_name(client, told.agent_id, error)
    return client.report_state(told.model_copy(update={"agent_id": agent_id}))
