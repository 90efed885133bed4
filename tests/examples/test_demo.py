"""The demo, as a reader runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.fastapi_agent import demo
from examples.fastapi_agent.processes import ROOT, Server
from examples.fastapi_agent.work import Work
from tests.support.processes import clean_environment

pytestmark = pytest.mark.timeout(60)

LIFE = [
    *("initializing", "idle"),
    *("active", "idle") * 4,
    *("active", "error", "idle"),
    *("draining", "finished"),
]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the demo puts what it writes; nothing of that may stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks on."""
    monkeypatch.setattr(demo, "PAUSE", 0)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    """The servers that the demo has started in this process; ended when the test fails."""
    started: list[Server] = []

    class Remembered(Server):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr(demo, "Server", Remembered)
    yield started
    for server in started:
        server.end()


def run(scratch: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.fastapi_agent.demo"],
        cwd=ROOT,
        env=clean_environment(TMPDIR=str(scratch)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def read_until(text: str, process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    seen = ""
    while text not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


def shown(output: str) -> list[str]:
    """Return the states in the order in which they were shown live."""
    live = output.partition("The history")[0]
    return re.findall(r"● (\w+)", live)


def in_a_shell(line: str) -> str:
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_gone(url: str) -> bool:
    try:
        httpx.get(url, timeout=1)
    except httpx.TransportError:
        return True
    return False


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the demo prints, played once to its end."""
    scratch = tmp_path_factory.mktemp("demo")
    with run(scratch) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, output
    assert list(scratch.iterdir()) == []
    return output


def test_the_demo_shows_the_true_life_of_the_agent(played: str) -> None:
    output = played
    assert shown(output) == LIFE
    assert "15 transitions, every one as expected" in output
    assert max(map(len, output.splitlines())) <= 80
    urls = set(re.findall(r"http://127\.0\.0\.1:\d+", output))
    assert all(is_gone(url) for url in urls)


def test_the_demo_shows_a_workflow_that_two_agents_share(played: str) -> None:
    tasks = re.findall(r"  (\w+(?:\[\d\])?) (reader-\d) +● (\w+)", played)
    ended = {task: state for task, _agent, state in tasks}
    assert ended == {
        "part": "completed",
        **{f"summaries[{n}]": "completed" for n in range(4)},
        "print": "failed",
        "keep": "completed",
    }
    assert {agent for task, agent, _state in tasks if task.startswith("summaries")} == set(
        demo.WORKERS
    )


def test_ctrl_c_leaves_nothing_behind(scratch: Path) -> None:
    with run(scratch) as process:
        seen = read_until("POST /summarise/slow", process)
        process.send_signal(signal.SIGINT)
        seen += process.communicate()[0]
    assert process.returncode == demo.INTERRUPTED
    assert "Traceback" not in seen
    assert all(is_gone(url) for url in re.findall(r"http://127\.0\.0\.1:\d+", seen))


def test_a_viewer_who_leaves_leaves_nothing_behind(scratch: Path) -> None:
    with run(scratch) as process:
        seen = read_until("POST /summarise", process)
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode != 0
    assert all(is_gone(url) for url in re.findall(r"http://127\.0\.0\.1:\d+", seen))


@pytest.mark.usefixtures("hurried", "scratch")
def test_keep_leaves_all_running_and_tells_how_to_use_and_stop_them(
    servers: list[Server], capsys: pytest.CaptureFixture[str]
) -> None:
    code = demo.main(["--keep"])
    output = capsys.readouterr().out
    assert code == 0, output
    assert shown(output) == LIFE[:-2]
    told = output.partition("All of them go on running")[2].replace('"seconds": 5', '"seconds": 0')
    lines = [line for line in told.splitlines() if line.startswith("    ")]
    *to_try, kill, remove = lines
    answers = in_a_shell("set -e\n" + "\n".join(to_try).replace("curl", "curl --silent"))
    assert '"summary"' in answers
    assert "Internal Server Error" in answers
    assert '"agentName":"summariser"' in answers
    assert '"state":"error"' in answers
    assert '{"type":"RuntimeError","message":"no ink","where":"POST /fail"}' in answers
    assert "draining" not in answers
    assert "session: completed" in answers
    in_a_shell(kill)
    for server in servers:
        server.end()
    in_a_shell(remove)


@pytest.mark.usefixtures("hurried", "scratch")
def test_another_life_than_expected_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "PATIENCE", 2.0)
    monkeypatch.setattr(Work, "slow", Work.failing)
    assert demo.main([]) == demo.FAILED
    output = capsys.readouterr().out
    assert "expected: initializing idle active idle active idle" in output
    assert "got:      initializing idle active idle active error" in output
    assert "The last that Ops-Core said:" in output
    assert "The last that the agent said:" in output
    assert "RuntimeError: lost its place" in output
