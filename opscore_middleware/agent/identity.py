"""Who this agent is: its name when nobody has given one, and its registration."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import PurePath
from types import ModuleType
from typing import Any, NamedTuple

from opscore_middleware.agent.settings import Settings

__all__ = ["Named", "find_name", "registration"]

# What runs apps, and so names no agent when it is the main module.
_SERVERS = frozenset(
    {
        *("uvicorn", "hypercorn", "gunicorn", "granian", "daphne", "pytest"),
        *("fastapi", "litestar", "quart", "chainlit", "fastmcp", "mcp"),
    }
)


class Named(NamedTuple):
    """A name and where it was taken from, for the start line."""

    name: str
    source: str


def find_name(
    settings: Settings,
    app: Any,
    *,
    argv: Sequence[str] | None = None,
    main: ModuleType | None = None,
) -> Named:
    """Return the agent's name: as set, else FastAPI's title, else the main module's.

    Never the host's name, which changes with each deploy. `app` is the outermost app, as
    Starlette puts it into the scope; `argv` and `main` are the process's own unless given.
    """
    if settings.agent_name is not None:
        return Named(settings.agent_name, "set")
    title = getattr(app, "title", None)
    if isinstance(title, str) and title.strip() and title != "FastAPI":
        return Named(_plain(title), "the app's title")
    return Named(_main_name(sys.argv if argv is None else argv, main), "the main module")


def registration(
    settings: Settings, name: str, agent_id: str | None, instance_id: str | None
) -> dict[str, Any]:
    """Return what this agent registers with; an instance is named only with its endpoint."""
    given = {
        "agentId": agent_id,
        "agentName": name,
        "version": settings.agent_version or None,
        "capabilities": settings.capabilities or None,
        "contactEndpoint": settings.contact_endpoint,
        "instanceId": instance_id if settings.contact_endpoint else None,
    }
    return {field: value for field, value in given.items() if value is not None}


def _main_name(argv: Sequence[str], main: ModuleType | None) -> str:
    main = sys.modules.get("__main__") if main is None else main
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None)
    name = spec.name.removesuffix(".__main__") if spec else PurePath(file or "").stem
    # Workers that a server spawns have neither, but their parent's arguments.
    if name.partition(".")[0] in _SERVERS or name in {"", "__main__"}:
        name = next(filter(None, map(_target, argv[1:])), name)
    return _plain(name)


def _target(argument: str) -> str | None:
    """Return the agent's module where an argument names one, as servers are told it.

    `uvicorn research.main:app`, `fastapi run research.py`, `fastmcp run research.py:server`;
    `-b localhost:8000` is no module.
    """
    path, colon, attribute = argument.partition(":")
    script = argument if argument.endswith(".py") else path  # a drive has a colon, too
    if script.endswith(".py"):
        return PurePath(script).stem
    if colon and attribute[:1].isidentifier() and all(map(str.isidentifier, path.split("."))):
        return path
    return None


def _plain(name: str) -> str:
    return "".join(c if c.isprintable() else " " for c in name).strip()[:200] or "agent"
