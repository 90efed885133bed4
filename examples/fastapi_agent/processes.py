"""Servers as real processes: started, waited for, read from when they fail, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

__all__ = ["ROOT", "ProcessFailed", "Server", "free_ports"]

ROOT: Final = Path(__file__).resolve().parents[2]
"""Where both servers run, so that `examples` can be imported."""
_WIDE: Final = 300  # what is read of a line in a log


class ProcessFailed(Exception):
    """A server did not come up, or did not end, when it should have."""


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on at this moment, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Server:
    """A server process of the demo.

    Args:
        name: what people call it.
        command: how it is started, from `ROOT`.
        settings: environment variables, in place of whatever else is set for Ops-Core here.
        log: the file that takes all its output.
    """

    def __init__(
        self, name: str, command: Sequence[str], settings: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            # In a session of its own, so that Ctrl-C reaches the demo alone, which ends the rest.
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**_plain_environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    async def answers(self, url: str, *, within: float = 20) -> None:
        """Wait until a GET of `url` succeeds. Raises `ProcessFailed` after `within` seconds."""
        async with httpx.AsyncClient(timeout=1) as http:
            for _ in range(int(within / 0.05)):
                if self._process.poll() is not None:
                    raise ProcessFailed(f"{self.name} ended with code {self._process.returncode}")
                try:
                    if (await http.get(url)).is_success:
                        return
                except httpx.TransportError:
                    pass  # not listening yet
                await asyncio.sleep(0.05)
        raise ProcessFailed(f"{self.name} did not answer at {url} within {within:g} s")

    async def stops(self, *, within: float = 10) -> None:
        """Ask the process to end and wait. Raises `ProcessFailed` after `within` seconds."""
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._process.wait, within)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"{self.name} went on for {within:g} s after SIGTERM") from None

    def end(self) -> None:
        """Make sure that the process is gone, gently first."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def tail(self, lines: int = 20) -> str:
        """Return the end of what the process has said."""
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(line[:_WIDE] for line in said[-lines:]) or "(nothing)"


def _plain_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPSCORE_", "AGENTKIT_"))
    }
