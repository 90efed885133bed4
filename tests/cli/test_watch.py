"""`opscore watch`, as it is typed and ended."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Registration, StateReport
from tests.support.processes import (
    OpsCoreProcess,
    clean_environment,
    opscore_command,
    running_opscore,
)
from tests.support.waiting import TIMEOUT


@pytest.fixture(scope="module")
def opscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpsCoreProcess]:
    """Return a running Ops-Core with an agent that was active and is in error."""
    with running_opscore(tmp_path_factory.mktemp("opscore"), key="open-sesame") as process:
        with OpsCoreClient(process.url, process.api_key) as client:
            client.register_agent(Registration(agent_id="a-1", agent_name="writer [v2]"))
            for sequence, state in enumerate(("active", "error"), 1):
                client.report_state(
                    StateReport.model_validate(
                        {
                            "agentId": "a-1",
                            "timestamp": "2026-01-31T12:00:00Z",
                            "state": state,
                            "instanceId": "i",
                            "sequence": sequence,
                            "details": {"n": sequence},
                        }
                    )
                )
        yield process


@contextmanager
def watching(opscore: OpsCoreProcess, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `opscore watch` until the block ends."""
    process = subprocess.Popen(
        [*opscore_command(), "watch", *arguments],
        env=clean_environment(OPSCORE_API_URL=opscore.url, OPSCORE_API_KEY="open-sesame"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    """Return the next lines that are printed."""
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def test_events_are_shown_a_line_each_until_ctrl_c(opscore: OpsCoreProcess) -> None:
    with watching(opscore, "--since", "0") as process:
        first, second = lines(process, 2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, out, err) == (0, "", "")
    assert "writer [v2]  active  " in first
    assert 'error  {"n": 2}  #' in second


def test_programs_get_one_json_object_a_line(opscore: OpsCoreProcess) -> None:
    with watching(
        opscore, "--since", "0", "--agent", "a-1", "--state", "error", "--json"
    ) as process:
        (line,) = lines(process, 1)
    event = json.loads(line)
    assert (event["agentName"], event["state"], event["details"]) == (
        "writer [v2]",
        "error",
        {"n": 2},
    )


def test_nobody_there_is_one_clear_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [*opscore_command(), "watch", "--api-url", "http://127.0.0.1:1"],
        env=clean_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT * 2,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "opscore serve" in done.stderr
