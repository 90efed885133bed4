"""`opscore report`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from opscore_middleware.cli.checks import checked
from opscore_middleware.cli.options import ApiKey, ApiUrl, AsJson
from opscore_middleware.cli.output import print_json
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import StateReport

__all__ = ["report"]


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{text!r} is not a JSON object; write for example '{{\"n\": 1}}'")
    return value


def report(
    agent_id: Annotated[str, typer.Argument(help="The agent that it is about.")],
    state: Annotated[
        str, typer.Argument(help="initializing, idle, active, error, draining or finished.")
    ],
    details: Annotated[
        Any,
        typer.Option(parser=_object, metavar="JSON", help="An object that says more."),
    ] = None,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Report the state of an agent by hand.

    Examples:

    \b
      opscore report 4f0c... idle
      opscore report 4f0c... error --details '{"message": "out of quota"}'
    """
    told = checked(
        StateReport, agent_id=agent_id, state=state, details=details, timestamp=datetime.now(UTC)
    )
    with OpsCoreClient(api_url, api_key) as client:
        answer = client.report_state(told)
    if as_json:
        print_json(answer)
    else:
        typer.echo(answer.message)
