"""An answer of 202 is a promise."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.processes import OpsCoreProcess, running_opscore


def report(opscore: OpsCoreProcess, agent_id: str, sequence: int) -> None:
    """Send one report and see that it was taken."""
    body = {
        "agentId": agent_id,
        "timestamp": "2026-09-21T14:13:20Z",
        "state": "active" if sequence % 2 else "idle",
        "instanceId": "i-1",
        "sequence": sequence,
    }
    answer = httpx.post(f"{opscore.url}/v1/opscore/agent/{agent_id}/state", json=body)
    assert answer.status_code == 202


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_no_accepted_report_is_lost_to_a_kill(tmp_path: Path, kills: int) -> None:
    with running_opscore(tmp_path) as opscore:
        created = httpx.post(f"{opscore.url}/v1/opscore/agents", json={"agentName": "a"})
        agent_id = created.json()["agentId"]
        for sequence in range(1, kills + 1):
            report(opscore, agent_id, sequence)
            opscore.kill()
            opscore.restart()
        answer = httpx.get(
            f"{opscore.url}/v1/opscore/agents/{agent_id}/history", params={"order": "asc"}
        )
    assert [item["sequence"] for item in answer.json()["items"]] == list(range(1, kills + 1))
