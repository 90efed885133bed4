"""`opscore fleet --watch` on a terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Registration, StateReport
from tests.support.processes import clean_environment, opscore_command, running_opscore
from tests.support.waiting import TIMEOUT, wait_until

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """What a command draws on a terminal of its own, and what it says on standard error."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int, errors: Path) -> None:
        self.process = process
        self._screen = screen
        self._errors = errors
        self._drawn = ""

    @property
    def drawn(self) -> str:
        """Everything that was drawn so far, without colours and movements."""
        while select.select([self._screen], [], [], 0)[0]:
            self._drawn += os.read(self._screen, 65536).decode()
        return STEERING.sub("", self._drawn)

    @property
    def said(self) -> str:
        """Everything that was said on standard error so far."""
        return self._errors.read_text()


@contextmanager
def watching(url: str, directory: Path) -> Iterator[Terminal]:
    """Run `opscore fleet --watch` until the block ends."""
    errors = directory / "errors"
    screen, terminal = pty.openpty()
    try:
        with errors.open("wb") as said:
            process = subprocess.Popen(
                [*opscore_command(), "fleet", "--watch"],
                env=clean_environment(OPSCORE_API_URL=url, TERM="xterm", COLUMNS="80"),
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=said,
            )
        try:
            yield Terminal(process, screen, errors)
        finally:
            process.kill()
            process.wait(TIMEOUT)
    finally:
        os.close(terminal)
        os.close(screen)


def test_the_fleet_is_watched_over_a_restart_of_ops_core(tmp_path: Path) -> None:
    with running_opscore(tmp_path) as opscore, watching(opscore.url, tmp_path) as terminal:
        wait_until(lambda: re.search(r"idle +0\b", terminal.drawn), message="the fleet to be drawn")
        opscore.kill()
        wait_until(lambda: "no answer from Ops-Core" in terminal.said, message="a word of it")
        assert terminal.process.poll() is None
        opscore.restart()
        with OpsCoreClient(opscore.url) as client:
            agent = client.register_agent(Registration(agent_name="writer"))
            now = datetime.now(UTC)
            client.report_state(StateReport(agent_id=agent.agent_id, timestamp=now, state="idle"))
        wait_until(lambda: re.search(r"idle +1\b", terminal.drawn), message="the agent to be drawn")
        assert terminal.said.count("\n") == 1
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(TIMEOUT) == 0
