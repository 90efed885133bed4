"""`opscore fleet`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from opscore_middleware.cli.options import ApiKey, ApiUrl, AsJson
from opscore_middleware.cli.output import ago, console, print_json, state_text
from opscore_middleware.cli.patience import answered, pauses
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.fleet import Fleet
from opscore_middleware.core.models import Liveness

__all__ = ["fleet"]

_EVERY: Final = 1.0
_STYLES: Final = {Liveness.ALIVE: "green", Liveness.LATE: "yellow", Liveness.LOST: "bold red"}


def fleet(
    watch: Annotated[bool, typer.Option("--watch", help="Draw it anew each second.")] = False,
    as_json: AsJson = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show all agents at a glance.

    Examples:

    \b
      opscore fleet
      opscore fleet --watch
      opscore fleet --json
    """
    with OpsCoreClient(api_url, api_key) as client:
        seen = client.fleet()
        if as_json:
            print_json(seen)
        elif watch:
            _watch(client, seen)
        else:
            console().print(_drawn(seen, datetime.now(UTC)))


def _watch(client: OpsCoreClient, seen: Fleet) -> None:
    waits = pauses()
    try:
        with Live(_drawn(seen, datetime.now(UTC)), auto_refresh=False) as live:
            while True:
                time.sleep(_EVERY)
                live.update(_drawn(answered(client.fleet, waits), datetime.now(UTC)), refresh=True)
    except KeyboardInterrupt:
        return


def _drawn(fleet: Fleet, now: datetime) -> Group:
    silent = fleet.longest_silent
    lines = [Text(f"{fleet.reports_per_second:,.1f} reports/s over the last minute")]
    if silent is not None:
        lines.append(
            Text(
                f"longest silent: {silent.agent_name}, instance {silent.instance_id}, "
                f"heard of {ago(silent.since, now)}"
            )
        )
    if fleet.doubt is not None:
        lines.append(
            Text(
                f"{fleet.doubt.silent} of {fleet.doubt.of} instances fell silent together "
                f"{ago(fleet.doubt.since, now)}: Ops-Core doubts itself",
                style="yellow",
            )
        )
    return Group(_counts(fleet), *lines)


def _counts(fleet: Fleet) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("AGENTS", "", "INSTANCES", ""):
        table.add_column(column, justify="left" if column else "right")
    states = [
        (state_text(state), str(count))
        for state, count in fleet.states.items()
        if count or state in {"idle", "active", "error"}
    ]
    states.append((Text("all"), str(fleet.agents)))
    states.append(
        (Text("lost", style=_STYLES[Liveness.LOST] if fleet.lost else ""), str(fleet.lost))
    )
    lives = [
        (Text(liveness.value, style=_STYLES[liveness] if count else ""), str(count))
        for liveness, count in fleet.liveness.items()
    ]
    lives += [(Text(), "")] * (len(states) - len(lives))
    for (state, agents), (liveness, instances) in zip(states, lives, strict=True):
        table.add_row(state, agents, liveness, instances)
    return table
