"""The commands, put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from opscore_middleware.cli import agents, db, keys, sessions, tasks, workflows
from opscore_middleware.cli.fleet import fleet
from opscore_middleware.cli.report import report
from opscore_middleware.cli.serve import serve
from opscore_middleware.cli.watch import watch

__all__ = ["app"]

app = typer.Typer(
    name="opscore",
    help="Run Ops-Core, and see what your agents do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(serve)
app.command()(fleet)
app.command()(report)
app.command()(watch)
app.add_typer(agents.app, name="agents")
app.add_typer(workflows.app, name="workflow")
app.add_typer(sessions.app, name="session")
app.add_typer(tasks.app, name="task")
# `sessions` is what it was called at first, and what is typed by whoever has just typed `agents`.
app.add_typer(workflows.app, name="workflows", hidden=True)
app.add_typer(sessions.app, name="sessions", hidden=True)
app.add_typer(tasks.app, name="tasks", hidden=True)
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"opscore {version('opscore-middleware')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which version."),
    ] = False,
) -> None:
    """Run Ops-Core, and see what your agents do."""
