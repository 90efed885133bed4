"""`opscore serve --workers`: several processes on one port and one PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support import commands
from tests.support.postgres import PASSWORD, PostgresServer, empty
from tests.support.processes import (
    OpsCoreProcess,
    clean_environment,
    opscore_command,
    running_opscore,
)
from tests.support.reporters import Reporters
from tests.support.waiting import TIMEOUT, wait_until

STARTING = 3 * TIMEOUT


@pytest.fixture
def opscore(postgres: str, tmp_path: Path) -> Iterator[OpsCoreProcess]:
    """Ops-Core with two workers, both ready."""
    env = {"OPSCORE_WORKERS": "2", "LOG_LEVEL": "debug"}
    with running_opscore(tmp_path, database_url=postgres, **env) as opscore:
        wait_until(lambda: len(listening(opscore)) == 2, timeout=STARTING, message="two workers")
        yield opscore


def listening(opscore: OpsCoreProcess) -> list[int]:
    """The processes that took up the port, in order."""
    return [event["pid"] for event in opscore.events() if event["event"] == "listening"]


def runs(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def answering(opscore: OpsCoreProcess) -> set[int]:
    """The processes that took reports."""
    return {event["pid"] for event in opscore.events() if event["event"] == "report_accepted"}


class Agent:
    """An agent that reports one sequence after another, over a connection of its own each time, and
    repeats what was not answered.
    """

    def __init__(self, opscore: OpsCoreProcess) -> None:
        self._reporters = Reporters(opscore)
        self._url = opscore.url
        self._agent_id = self._reporters.register()
        self.answered = 0

    def report(self) -> None:
        body = {
            "agentId": self._agent_id,
            "timestamp": "2026-09-21T14:13:20Z",
            "state": "idle",
            "instanceId": "i",
            "sequence": self.answered + 1,
        }
        url = f"{self._url}/v1/opscore/agent/{self._agent_id}/state"
        try:
            answer = httpx.post(url, json=body, timeout=TIMEOUT)
        except httpx.TransportError:
            return
        assert answer.status_code == 202, answer.text
        self.answered += 1

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Report all the time."""
        enough = threading.Event()

        def report() -> None:
            while not enough.is_set():
                self.report()

        thread = threading.Thread(target=report)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()

    def kept(self) -> list[int]:
        """The sequences that are in the history."""
        return [transition["sequence"] for transition in self._reporters.history(self._agent_id)]

    def leave(self) -> None:
        """Close what is open."""
        self._reporters.http.close()


@pytest.fixture
def agent(opscore: OpsCoreProcess) -> Iterator[Agent]:
    """An agent that Ops-Core knows."""
    agent = Agent(opscore)
    yield agent
    agent.leave()


def test_two_workers_answer_at_one_address(opscore: OpsCoreProcess, agent: Agent) -> None:
    def both_have_answered() -> bool:
        agent.report()
        return answering(opscore) == set(listening(opscore))

    wait_until(both_have_answered, message="both workers to answer")
    assert agent.kept() == list(range(1, agent.answered + 1))
    assert opscore.pid not in answering(opscore)


def test_a_worker_that_is_killed_is_replaced_and_reports_go_on(
    opscore: OpsCoreProcess, agent: Agent
) -> None:
    first, second = listening(opscore)
    with agent.reporting():
        wait_until(lambda: agent.answered > 10)
        os.kill(first, signal.SIGKILL)
        before = agent.answered
        wait_until(lambda: agent.answered > before + 10)
        wait_until(lambda: len(listening(opscore)) == 3, timeout=STARTING, message="a third worker")
        third = listening(opscore)[2]
        wait_until(lambda: third in answering(opscore), message="the third worker to answer")
    assert agent.kept() == list(range(1, agent.answered + 1))
    assert runs(second)
    (died,) = [event for event in opscore.events() if event["event"] == "worker_died"]
    assert (died["worker"], died["exit_code"]) == (first, -signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_them_all_cleanly(opscore: OpsCoreProcess, number: signal.Signals) -> None:
    workers = listening(opscore)
    assert opscore.send(number) == 0
    assert [worker for worker in workers if runs(worker)] == []
    told = [event["event"] for event in opscore.events()]
    assert told.count("stopped") == 2
    assert told[-1] == "workers_stopped"
    assert not {"worker_died", "worker_killed"} & set(told)
    assert "Traceback" not in opscore.log()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{opscore.url}/health")


def test_workers_end_when_the_process_that_started_them_is_killed(opscore: OpsCoreProcess) -> None:
    workers = listening(opscore)
    opscore.kill()
    wait_until(lambda: not any(map(runs, workers)), message="the workers to end")
    assert [event["event"] for event in opscore.events()].count("stopped") == 2


def test_a_worker_that_finds_no_database_is_started_again_until_it_does(
    mortal_postgres: PostgresServer, tmp_path: Path
) -> None:
    mortal_postgres.restart()
    empty(mortal_postgres.url)
    env = {"OPSCORE_WORKERS": "2"}
    with running_opscore(tmp_path, database_url=mortal_postgres.url, **env) as opscore:
        wait_until(lambda: len(listening(opscore)) == 2, timeout=STARTING, message="two workers")
        mortal_postgres.stop()
        os.kill(listening(opscore)[0], signal.SIGKILL)

        def failed() -> list[str]:
            return [e["detail"] for e in opscore.events() if e["event"] == "worker_failed"]

        wait_until(lambda: len(failed()) == 2, timeout=STARTING, message="two vain attempts")
        assert "cannot be used right now" in failed()[0]
        mortal_postgres.start()
        wait_until(lambda: len(listening(opscore)) == 3, timeout=STARTING, message="a new worker")
        assert PASSWORD not in opscore.log()


def refused(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `opscore serve` where it cannot start, and return what it said."""
    return subprocess.run(
        [*opscore_command(), "serve", "--port", "0", *arguments],
        cwd=tmp_path,
        env=clean_environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STARTING,
        check=False,
    )


def test_several_workers_on_sqlite_are_refused_with_the_remedy(tmp_path: Path) -> None:
    for done in (
        refused(tmp_path, "--workers", "2"),
        refused(tmp_path, OPSCORE_WORKERS="2"),
    ):
        assert done.returncode == 2
        assert "set OPSCORE_DATABASE_URL to a postgresql:// URL, or run one worker" in done.stderr
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_opened_is_said_once_for_all_workers(tmp_path: Path) -> None:
    url = "postgresql://u:hidden@127.0.0.1:1/d"
    done = refused(tmp_path, "--workers", "3", "--database", url)
    assert done.returncode == 1
    assert "cannot be used right now" in done.stderr
    assert "hidden" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_number_that_is_none_is_refused(value: str) -> None:
    done = commands.opscore("serve", OPSCORE_WORKERS=value)
    assert done.returncode == 2
    assert "OPSCORE_WORKERS" in done.stderr
    assert done.stderr.count("\n") == 1
