"""Agents that report over HTTP, as a test wants them to."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.processes import OpsCoreProcess
from tests.support.waiting import TIMEOUT

__all__ = ["Reporters"]


class Reporters:
    """Agents that report to an Ops-Core."""

    def __init__(self, opscore: OpsCoreProcess) -> None:
        self.http = httpx.Client(
            base_url=f"{opscore.url}/v1/opscore", headers=opscore.headers(), timeout=TIMEOUT
        )
        self._names = iter(range(1_000_000))

    def register(self, name: str | None = None, **fields: Any) -> str:
        """Make an agent known, by a name of its own unless told otherwise."""
        body = {"agentName": name or f"agent-{next(self._names)}", **fields}
        return str(self.http.post("/agents", json=body).json()["agentId"])

    def report(
        self, agent_id: str, *states: str, instance: str = "i", first: int = 1, **fields: Any
    ) -> None:
        """Report states of an instance, from a sequence number on, all at once."""
        reports = [
            {
                "agentId": agent_id,
                "timestamp": "2026-09-21T14:13:20Z",
                "state": state,
                "instanceId": instance,
                "sequence": first + position,
                **fields,
            }
            for position, state in enumerate(states)
        ]
        answer = self.http.post(f"/agent/{agent_id}/states", json={"reports": reports})
        assert answer.status_code == 202, answer.text

    def history(self, agent_id: str) -> list[dict[str, Any]]:
        """Return an agent's transitions, oldest first."""
        query = {"order": "asc", "limit": 1000}
        answer = self.http.get(f"/agents/{agent_id}/history", params=query)
        return list(answer.json()["items"])
