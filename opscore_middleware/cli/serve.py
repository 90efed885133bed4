"""`opscore serve`."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["serve"]


Host = Annotated[
    str | None,
    typer.Option(
        help="The address to listen on; else OPSCORE_HOST, else 127.0.0.1.", show_default=False
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="0 takes any port that is free; else OPSCORE_PORT, else 8000.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many processes share the port, on PostgreSQL; else OPSCORE_WORKERS, else 1.",
        show_default=False,
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        help="Where everything is kept; else OPSCORE_DATABASE_URL, else sqlite:///opscore.db.",
        show_default=False,
    ),
]


def serve(
    host: Host = None, port: Port = None, workers: Workers = None, database: Database = None
) -> None:
    """Run Ops-Core until it is stopped.

    More settings come from the environment: OPSCORE_API_KEY or OPSCORE_API_KEYS_FILE (one is
    needed to listen beyond this machine), OPSCORE_EXTRA_STATES, OPSCORE_MAX_BODY_BYTES,
    OPSCORE_MAX_BATCH_BYTES, OPSCORE_MAX_PENDING, LOG_LEVEL, LOG_FORMAT (json, console or auto).

    Examples:

    \b
      opscore serve
      opscore serve --port 9000 --database sqlite:////var/lib/opscore/opscore.db
      OPSCORE_API_KEY=... opscore serve --host 0.0.0.0
      opscore serve --workers 4 --database postgresql://opscore@db.internal/opscore
    """
    # The server is an extra of its own; the other commands do without it.
    from opscore_middleware.server import Settings
    from opscore_middleware.server import serve as run

    run(Settings.resolve(host=host, port=port, workers=workers, database_url=database))
