"""An Ops-Core to be asked anything."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.testclient import TestClient

from opscore_middleware.core.clock import SECOND
from opscore_middleware.server import Settings, create_app

__all__ = ["PEER", "RIGHT", "app", "register"]

KEY: Final = "open-sesame"
RIGHT: Final = {"Authorization": f"Bearer {KEY}"}
PEER: Final = ("127.0.0.1", 50000)
"""On this machine, so that the webhook is taken unsigned."""


def app() -> FastAPI:
    """Return an empty Ops-Core, whose clock stands."""
    # Nothing is sent: strangers' addresses are made up as well.
    settings = Settings.resolve(database_url="sqlite:///:memory:", api_key=KEY, dispatch=False)
    return create_app(settings, clock=lambda: 1_790_000_000 * SECOND)


def register(client: TestClient) -> None:
    """Make agent `a` known, or bring it back."""
    agent = {"agentId": "a", "agentName": "known"}
    assert client.post("/v1/opscore/agents", json=agent, headers=RIGHT).status_code in {200, 201}
