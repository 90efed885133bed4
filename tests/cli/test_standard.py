"""Where what is printed goes: to the end of a disk, to a reader that leaves, or nowhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.processes import clean_environment, opscore_command
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no device that is full"
)


def shell(line: str) -> tuple[int, str]:
    """Run a line of the shell's with `opscore` in it; return its exit code and what it printed."""
    done = subprocess.run(
        ["bash", "-c", line.replace("opscore", " ".join(opscore_command()), 1)],
        env=clean_environment(OPSCORE_API_URL="http://127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["--version", "keys add --help"])
@pytest.mark.parametrize(
    ("output", "reason"),
    [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
)
def test_what_cannot_be_printed_is_one_line(command: str, output: str, reason: str) -> None:
    said = f"opscore: what it prints could not be written: {reason}\n"
    assert shell(f"opscore {command} {output}") == (1, said)


@pytest.mark.parametrize("errors", ["2> /dev/full", "2>&-"])
def test_an_error_that_cannot_be_told_keeps_its_exit_code(errors: str) -> None:
    assert shell(f"opscore agents list {errors}") == (1, "")
    assert shell(f"opscore agents list --api-url nowhere {errors}") == (2, "")


def test_a_reader_that_has_enough_is_no_error() -> None:
    assert shell("opscore --help | true") == (0, "")
