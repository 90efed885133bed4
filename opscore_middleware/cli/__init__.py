"""The command line: `opscore`. Needs the `cli` extra."""

from __future__ import annotations

import sys

from opscore_middleware.cli.commands import in_commands
from opscore_middleware.cli.printable import visible
from opscore_middleware.cli.standard import (
    UNWRITABLE,
    escape_the_rest,
    leave_the_rest,
    open_what_is_closed,
    say,
)
from opscore_middleware.errors import ConfigurationError, InvalidInput, MissingExtra, OpsCoreError

__all__ = ["main"]


def main() -> None:
    """Run the command that `sys.argv` names.

    Exits with 1 when Ops-Core refuses or does not answer and with 2 when the command cannot be
    run as it is written or configured; one line on standard error says why.
    """
    open_what_is_closed()
    escape_the_rest()
    try:
        _run()
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        say(f"what it prints could not be written: {error.strerror or error}")
        leave_the_rest()
        sys.exit(1)
    except OpsCoreError as error:
        say(visible(in_commands(error.message)))
        leave_the_rest()
        sys.exit(2 if isinstance(error, ConfigurationError | InvalidInput) else 1)


def _run() -> None:
    try:
        from opscore_middleware.cli.app import app
    except ModuleNotFoundError as error:
        # Only somebody else's module can be an extra that is missing.
        if (error.name or "").startswith("opscore_middleware"):
            raise
        raise MissingExtra("opscore", "cli") from error
    app()
