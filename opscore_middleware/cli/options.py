"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["ApiKey", "ApiUrl", "AsJson"]

ApiUrl = Annotated[
    str | None,
    typer.Option(
        help="Where Ops-Core is; else OPSCORE_API_URL, else http://127.0.0.1:8000.",
        show_default=False,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(help="The key that opens it; else OPSCORE_API_KEY.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
