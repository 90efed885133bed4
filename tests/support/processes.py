"""Real servers in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.waiting import TIMEOUT, wait_until

__all__ = ["OpsCoreProcess", "clean_environment", "opscore_command", "running_opscore"]


class OpsCoreProcess:
    """`opscore serve` on a port of its own, with a SQLite file in `directory` unless `database_url`
    names another database.

    `url` is where it listens, also after a restart; `api_key` opens it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        api_key: str | None,
        port: int,
        env: dict[str, str],
        database_url: str | None = None,
    ) -> None:
        self.api_key = api_key
        self.database = directory / "opscore.db"
        self._database_url = database_url or f"sqlite:///{self.database}"
        self._log = directory / "opscore.log"
        self._port = port
        self._env = env | ({} if api_key is None else {"OPSCORE_API_KEY": api_key})
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Start the process and wait until it answers."""
        already = len(self.events())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *opscore_command(),
                    *("serve", "--port", str(self._port)),
                    *("--database", self._database_url),
                ],
                env=clean_environment(**self._env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.url = wait_until(
            lambda: self._listening(already),
            timeout=3 * TIMEOUT,  # interpreters start slowly where others are under load
            message=f"opscore serve to listen: {self.log()}",
        )
        self._port = int(self.url.rpartition(":")[2])
        assert httpx.get(f"{self.url}/health").status_code == 200

    def stop(self) -> int:
        """Ask the process to stop, as a service manager does, and return its exit code."""
        return self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> int:
        """Send a signal that ends the process, and return its exit code."""
        process = self._running()
        process.send_signal(number)
        return process.wait(TIMEOUT)

    def kill(self) -> None:
        """End the process without a chance to finish anything."""
        process = self._running()
        process.kill()
        process.wait(TIMEOUT)

    def restart(self) -> None:
        """Start it again, at the same address and on the same file; stop it before if it runs."""
        if self.alive:
            self.stop()
        self.start()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that runs, or ran."""
        return self._running().pid

    def log(self) -> str:
        """Return everything that was printed so far."""
        return self._log.read_text() if self._log.exists() else ""

    def events(self) -> list[dict[str, Any]]:
        """Return the lines of the log that are whole events."""
        lines = self.log().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def headers(self) -> dict[str, str]:
        """Return the headers that a request needs."""
        return {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}

    def _listening(self, already: int) -> str:
        assert self.alive, f"opscore serve ended: {self.log()}"
        for event in self.events()[already:]:
            if event["event"] == "listening":
                return str(event["url"])
        return ""

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "opscore serve was never started"
        return self._process


@contextmanager
def running_opscore(
    tmp_path: Path,
    key: str | None = None,
    port: int = 0,
    database_url: str | None = None,
    **env: str,
) -> Iterator[OpsCoreProcess]:
    """Run `opscore serve` on a free port, with a fresh file unless `database_url` names another
    database, and see that it ends cleanly.

    `env` is added to its environment. A test may kill the process; then there is nothing to end.
    """
    process = OpsCoreProcess(tmp_path, api_key=key, port=port, env=env, database_url=database_url)
    try:
        process.start()
        yield process
        if process.alive:
            code = process.stop()
            assert code == 0, f"opscore serve ended with {code}: {process.log()}"
    finally:
        if process.alive:
            process.kill()


def opscore_command() -> list[str]:
    """Return the command `opscore` of the environment that the tests run in."""
    return [str(Path(sys.executable).with_name("opscore"))]


def clean_environment(**env: str) -> dict[str, str]:
    """Return this process's environment without anything that configures Ops-Core, plus `env`."""
    settings = ("OPSCORE_", "AGENTKIT_", "LOG_", "OTEL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return kept | env
