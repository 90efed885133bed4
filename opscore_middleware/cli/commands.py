"""What Ops-Core advises in its routes, said in commands."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["in_commands"]

_COMMANDS: Final = {
    "GET /v1/opscore/sessions": "opscore session list",
    "GET /v1/opscore/tasks": "opscore task list",
    "GET /v1/opscore/workflows": "opscore workflow list",
    "POST /v1/opscore/agents": "opscore agents register",
    "POST /v1/opscore/workflows": "opscore workflow put",
}
_RETRY: Final = re.compile(r"POST /v1/opscore/(session|task)s/([^/\s]+)/retry(?! answered)")
_ROUTE: Final = re.compile(rf"(?:{'|'.join(_COMMANDS)})(?![^\s.,;])(?! answered)")


def in_commands(text: str) -> str:
    """Return an error's words with commands for the routes that they advise.

    A route that was asked, and answered so, is left as it is.
    """
    text = _ROUTE.sub(lambda found: f"`{_COMMANDS[found[0]]}`", text)
    return _RETRY.sub(lambda found: f"`opscore {found[1]} retry {found[2]}`", text)
