"""Ops-Core's HTTP server: the shared core behind FastAPI. Needs the `server` extra."""

from __future__ import annotations

from opscore_middleware.errors import MissingExtra

try:
    from opscore_middleware.server.app import create_app
    from opscore_middleware.server.run import serve
    from opscore_middleware.server.settings import Settings
except ModuleNotFoundError as error:
    # Only somebody else's module can be an extra that is missing.
    if (error.name or "").startswith("opscore_middleware"):
        raise
    raise MissingExtra("opscore serve", "server") from error

__all__ = ["Settings", "create_app", "serve"]
