"""`opscore db …`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from opscore_middleware.cli.options import AsJson
from opscore_middleware.cli.output import print_json, print_pairs
from opscore_middleware.errors import ConfigurationError, OpsCoreError
from opscore_middleware.stores import Database, open_store
from opscore_middleware.stores.schema import SchemaStatus

__all__ = ["app"]

BEHIND: Final = 1
UNTOLD: Final = 2

app = typer.Typer(
    help="Look at the schema of Ops-Core's database, and bring it up to date.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Where everything is kept; else OPSCORE_DATABASE_URL, else sqlite:///opscore.db.",
        show_default=False,
    ),
]


@app.command()
def status(database: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Say how far the database's schema has come. Changes nothing, and may run beside a server.

    Exits with 0 when the schema is up to date, with 1 when steps are missing, and with 2 when that
    cannot be told: the database does not answer, or a newer release has upgraded it.

    Examples:

    \b
      opscore db status
      opscore db status --database postgresql://opscore@db.internal/opscore
      opscore db status --json | jq -r '.missing[]'
    """
    try:
        found = asyncio.run(_database(database).schema())
    except ConfigurationError:
        raise
    except OpsCoreError as error:
        typer.echo(f"opscore: {error.message}", err=True)
        raise typer.Exit(UNTOLD) from error
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found.missing:
        raise typer.Exit(BEHIND)


@app.command()
def upgrade(database: DatabaseUrl = None) -> None:
    """Bring the database's schema up to date: all steps that are missing, or none.

    `opscore serve` does the same when it starts. A SQLite file is copied first, and no server may
    use it meanwhile; on PostgreSQL, servers of the release before go on working.

    Examples:

    \b
      opscore db upgrade
      opscore db upgrade --database postgresql://opscore@db.internal/opscore
    """
    before = asyncio.run(_upgraded(_database(database)))
    if not before.missing:
        typer.echo(f"{before.address} is up to date, at schema version {before.wanted}.")
        return
    for name in before.missing:
        typer.echo(f"took {name}")
    typer.echo(f"{before.address} went from schema version {before.found} to {before.wanted}.")


def _database(given: str | None) -> Database:
    # What the server is told is read by the server, which is an extra of its own.
    from opscore_middleware.server import Settings

    return open_store(Settings.resolve(database_url=given).database_url)


async def _upgraded(database: Database) -> SchemaStatus:
    """Bring it up to date, and return what it was before."""
    before = await database.schema()
    await database.open()  # takes the steps
    await database.close()
    return before


def _print(found: SchemaStatus) -> None:
    print_pairs(
        [
            ("Store", found.store),
            ("Address", found.address),
            ("Schema found", str(found.found) if found.found else "none yet"),
            ("Schema wanted", str(found.wanted)),
            ("Missing steps", "\n".join(found.missing) or "none"),
        ]
    )
