"""An agent as a real uvicorn process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.processes import clean_environment
from tests.support.waiting import TIMEOUT, wait_until

__all__ = ["AgentProcess", "running_agent"]

ROOT = Path(__file__).resolve().parents[2]
_LISTENING = re.compile(r"Uvicorn running on (http://\S+)")


class AgentProcess:
    """`uvicorn tests.e2e.agent_app:app`, or another app, on a free port unless `options` name one;
    `log` holds all that it printed.
    """

    def __init__(
        self, log: Path, *options: str, app: str = "tests.e2e.agent_app:app", **env: str
    ) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", app),
                    *("--port", "0", *options),
                ],
                cwd=ROOT,
                env=clean_environment(**env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.url = ""
        self.http = httpx.Client(timeout=TIMEOUT)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def lines(self) -> list[str]:
        """What our library logged: warnings and worse reach standard error by default."""
        return [line for line in self.log.splitlines() if "Ops-Core" in line]

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def listens(self) -> None:
        """Wait until it serves."""

        def find() -> re.Match[str] | None:
            assert not self.ended, self.log
            return _LISTENING.search(self.log)

        self.url = wait_until(find, message="uvicorn to listen")[1]
        self.http.base_url = httpx.URL(self.url)
        wait_until(self._answers, message="uvicorn to answer")

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def ends(self) -> tuple[int, float]:
        """Wait for the end; return the exit code and how long it took, in seconds."""
        started = time.monotonic()
        code = self._process.wait(TIMEOUT)
        return code, time.monotonic() - started

    def close(self) -> None:
        """Make sure that it is gone."""
        self.http.close()
        if not self.ended:
            self._process.kill()
            self._process.wait(TIMEOUT)

    def _answers(self) -> bool:
        try:
            return self.http.get("/health").is_success
        except httpx.TransportError:
            return False


@contextmanager
def running_agent(
    tmp_path: Path, *options: str, app: str = "tests.e2e.agent_app:app", **env: str
) -> Iterator[AgentProcess]:
    """Run an agent and wait until it serves."""
    log = tmp_path / f"agent-{time.monotonic_ns()}.log"
    agent = AgentProcess(log, *options, app=app, **env)
    try:
        agent.listens()
        yield agent
    finally:
        agent.close()
