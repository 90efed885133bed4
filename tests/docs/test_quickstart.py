"""The quickstart, followed to the letter."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from examples.fastapi_agent.processes import Server, free_ports
from tests.docs.pages import ROOT, Page
from tests.support.processes import clean_environment, opscore_command, running_opscore
from tests.support.waiting import wait_until

KEY = "a-key-as-the-page-makes-one"


@pytest.mark.timeout(60)
def test_a_reader_sees_the_agent_work_and_stop(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    code = Page(ROOT / "docs" / "quickstart.md").blocks("python")[0].code
    (tmp_path / "agent.py").write_text(code, encoding="utf-8")
    uvicorn = [sys.executable, "-m", "uvicorn", "agent:app", "--app-dir", str(tmp_path)]
    with running_opscore(tmp_path, key=KEY) as ops_core:
        settings = {"OPSCORE_API_URL": ops_core.url, "OPSCORE_API_KEY": KEY}
        command = [*uvicorn, "--port", str(port)]
        agent = Server("the agent", command, settings, tmp_path / "agent.log")
        try:
            asyncio.run(agent.answers(f"http://127.0.0.1:{port}/docs"))

            def listed() -> list[dict[str, str]]:
                found: list[dict[str, str]] = json.loads(opscore(settings, "agents", "list"))
                return found

            (shown,) = wait_until(listed, message="the agent to be listed")
            assert shown["agentName"] == "research"
            url = f"http://127.0.0.1:{port}/answer?question=why"
            assert httpx.post(url, timeout=10).json() == "It depends on what you mean by 'why'."
            asyncio.run(agent.stops())
        finally:
            agent.end()
        history = json.loads(opscore(settings, "agents", "history", shown["agentId"]))
    assert [transition["state"] for transition in reversed(history)] == [
        *("initializing", "idle", "active", "idle", "draining", "finished")
    ]


def opscore(settings: dict[str, str], *arguments: str) -> str:
    """Run the command line as the page does, and return the JSON that it prints."""
    done = subprocess.run(
        [*opscore_command(), *arguments, "--json"],
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
