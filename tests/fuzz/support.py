"""An Ops-Core to be asked anything."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.testclient import TestClient

from opscore_middleware.core.clock import SECOND
from opscore_middleware.server import Settings, create_app

__all__ = ["MEMORY", "PEER", "RIGHT", "WORKFLOW", "app", "begin", "register", "there"]

KEY: Final = "open-sesame"
MEMORY: Final = "sqlite:///:memory:"
RIGHT: Final = {"Authorization": f"Bearer {KEY}"}
WORKFLOW: Final = {
    "id": "w",
    "name": "known",
    "tasks": [
        {"taskId": "out", "name": "Given out", "agentId": "a"},
        {"taskId": "waits", "name": "Waits", "agentId": "a", "dependsOn": ["out"]},
    ],
}
PEER: Final = ("127.0.0.1", 50000)
"""On this machine, so that the webhook is taken unsigned."""


def app(address: str = MEMORY) -> FastAPI:
    """Return an Ops-Core on the store with this address, whose clock stands."""
    # Nothing is sent: strangers' addresses are made up as well.
    settings = Settings.resolve(database_url=address, api_key=KEY, dispatch=False)
    return create_app(settings, clock=lambda: 1_790_000_000 * SECOND)


def register(client: TestClient) -> None:
    """Make agent `a` known, or bring it back."""
    agent = {"agentId": "a", "agentName": "known", "contactEndpoint": "http://127.0.0.1:9/task"}
    assert client.post("/v1/opscore/agents", json=agent, headers=RIGHT).status_code in {200, 201}


def begin(client: TestClient) -> None:
    """Start workflow `w`, and have agent `a` work on its first task."""
    report = {"agentId": "a", "timestamp": "2026-09-21T14:13:20Z", "state": "idle"}
    answer = client.post("/v1/opscore/agent/a/state", json=report, headers=RIGHT)
    assert answer.status_code == 202
    start = {"workflowDefinition": WORKFLOW}
    answer = client.post("/v1/opscore/agent/a/workflow", json=start, headers=RIGHT)
    assert answer.status_code == 202
    assert client.portal is not None
    assert len(client.portal.call(client.app.state.engine.claim, 1)) == 1  # type: ignore[attr-defined]


def there(client: TestClient) -> dict[str, str]:
    """Return what is known, by the name that paths have for it."""
    tasks = client.get("/v1/opscore/tasks", headers=RIGHT).json()["items"]
    out = next(task for task in tasks if task["node"] == "out")
    return {"agentId": "a", "sessionId": "s", "workflowId": "w", "taskId": out["taskId"]}
