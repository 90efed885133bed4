"""Looking again and again, also while Ops-Core is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import typer

from opscore_middleware.cli.commands import in_commands
from opscore_middleware.cli.printable import visible
from opscore_middleware.client.following import PASSING
from opscore_middleware.errors import RemoteError, RemoteUnavailable

__all__ = ["patiently"]

T = TypeVar("T")

_AGAIN: Final = 1.0  # seconds


def patiently(look: Callable[[], T]) -> T:
    """Return what `look` finds, once there is an answer; that there is none is told once.

    What is watched goes on without its watchers, so no restart of Ops-Core ends a watch. Raises
    what `look` raises for a refusal that does not pass with time.
    """
    told = False
    while True:
        try:
            return look()
        except RemoteError as error:
            if not isinstance(error, RemoteUnavailable) and error.remote_status not in PASSING:
                raise
            if not told:
                typer.echo(f"opscore: {visible(in_commands(error.message))}", err=True)
        told = True
        time.sleep(_AGAIN)
