"""The servers that agents run under, as processes on loopback."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import httpx

from tests.support.processes import clean_environment
from tests.support.waiting import TIMEOUT, wait_until

__all__ = ["SERVERS", "ServerProcess", "lifespans", "serving"]

ROOT: Final = Path(__file__).resolve().parents[2]
APP: Final = "tests.traps.agent_app:app"

SERVERS: Final[dict[str, tuple[str, ...]]] = {
    "uvicorn h11": ("uvicorn", APP, "--port", "{port}", "--http", "h11"),
    "uvicorn httptools": ("uvicorn", APP, "--port", "{port}", "--http", "httptools"),
    "uvicorn without lifespan": ("uvicorn", APP, "--port", "{port}", "--lifespan", "off"),
    # Both wait less than they would by default: seconds for a request that does not end.
    "hypercorn asyncio": (
        *("hypercorn", "-k", "asyncio", "-b", "127.0.0.1:{port}"),
        *("--graceful-timeout", "1", APP),
    ),
    "hypercorn trio": (
        *("hypercorn", "-k", "trio", "-b", "127.0.0.1:{port}"),
        *("--graceful-timeout", "1", APP),
    ),
    "granian": ("granian", "--interface", "asgi", "--port", "{port}", APP),
    "gunicorn": (
        *("gunicorn", "--no-control-socket", "-b", "127.0.0.1:{port}"),
        *("-k", "uvicorn_worker.UvicornWorker", APP),
    ),
    "gunicorn preload": (
        *("gunicorn", "--no-control-socket", "-b", "127.0.0.1:{port}", "--preload"),
        *("-k", "uvicorn_worker.UvicornWorker", APP),
    ),
    # It lets an app go on for three seconds by default after its client has left.
    "gunicorn asgi": (
        *("gunicorn", "--no-control-socket", "-b", "127.0.0.1:{port}", "-k", "asgi"),
        *("--asgi-disconnect-grace-period", "0", APP),
    ),
}
"""Their commands, after `python -m`."""


def lifespans(server: str) -> bool:
    """Tell whether a server starts and stops its app."""
    return "off" not in SERVERS[server]


class ServerProcess:
    """A server that runs the agent, with all its child processes in a group of its own."""

    def __init__(self, server: str, *options: str, **env: str) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed as the process is
        command = [part.format(port=port) for part in SERVERS[server]]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command, *options],
            cwd=ROOT,
            env=clean_environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._output.close()

    @property
    def log(self) -> str:
        """All that it has printed."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def serves(self) -> None:
        """Wait until it answers."""
        wait_until(self._answers, message="the server to answer")

    def terminate(self) -> None:
        """Send SIGTERM to the first process, as a container's host does."""
        self._process.terminate()

    def interrupt(self) -> None:
        """Send SIGINT to all processes, as Ctrl-C in a terminal does."""
        self._signal_group(signal.SIGINT)

    def kill(self) -> None:
        """End all of it without a chance to finish anything."""
        self._signal_group(signal.SIGKILL)
        self._process.wait(TIMEOUT)

    def ends(self, timeout: float = TIMEOUT) -> int | None:
        """Wait for its end; return the exit code, or None where it goes on."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass  # all of it has ended

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log
        try:
            return httpx.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False


@contextmanager
def serving(server: str, *options: str, **env: str) -> Iterator[ServerProcess]:
    """Run a server that serves, until the block ends."""
    with ServerProcess(server, *options, **env) as process:
        process.serves()
        yield process


# Outside the range that systems hand out by themselves, since not every server can be given port 0:
# nobody else takes one between the look and the server's start, and we take each but once.
_PORTS: Final = iter(random.sample(range(20_000, 30_000), 10_000))


def _free_port() -> int:
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
