"""Killed again and again in the middle of everything: no answer is taken back, none kept twice."""

from __future__ import annotations

import http.client
import itertools
import json
import sqlite3
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import HistoryQuery, Order, Registration
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import wait_until

REPORTERS = 32


class Reporter:
    """One instance of the agent, which reports one sequence after another.

    `answered` is the last one that was taken, by its answer.
    """

    def __init__(self, opscore: OpsCoreProcess, agent_id: str, number: int) -> None:
        self._address = opscore.url.removeprefix("http://")
        self._agent_id = agent_id
        self._instance_id = f"i{number}"
        self.answered = 0

    def report_until_cut_off(self) -> None:
        """Report until the server is gone, beginning with what it has not answered."""
        with closing(http.client.HTTPConnection(self._address, timeout=30)) as connection:
            try:
                while True:
                    self._report(connection)
            except (OSError, http.client.HTTPException):
                return

    def report_once(self) -> None:
        with closing(http.client.HTTPConnection(self._address, timeout=30)) as connection:
            self._report(connection)

    def _report(self, connection: http.client.HTTPConnection) -> None:
        sequence = self.answered + 1
        body = {
            "agentId": self._agent_id,
            "timestamp": "2026-09-21T14:13:20Z",
            "state": "active" if sequence % 2 else "idle",
            "instanceId": self._instance_id,
            "sequence": sequence,
        }
        path = f"/v1/opscore/agent/{self._agent_id}/state"
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 202, content
        self.answered = sequence


def survives(directory: Path, rounds: int) -> None:
    with (
        running_opscore(directory) as opscore,
        OpsCoreClient(opscore.url) as client,
        ThreadPoolExecutor(REPORTERS) as threads,
    ):
        agent_id = client.register_agent(Registration(agent_name="a")).agent_id
        reporters = [Reporter(opscore, agent_id, n) for n in range(REPORTERS)]
        for number in range(rounds):
            before = sum(reporter.answered for reporter in reporters)
            reporting = [threads.submit(r.report_until_cut_off) for r in reporters]
            # Sooner or later in the flow of commits, so that all moments are met.
            enough = before + REPORTERS + 37 * number % 500
            wait_until(lambda: sum(r.answered for r in reporters) >= enough)  # noqa: B023 - at once
            opscore.kill()
            for done in reporting:
                done.result()
            opscore.restart()
        for reporter in reporters:
            reporter.report_once()
        query = HistoryQuery(order=Order.ASC, limit=1000)
        history = list(client.iter_history(agent_id, query))
    kept: dict[str | None, list[int | None]] = defaultdict(list)
    for transition in history:
        kept[transition.instance_id].append(transition.sequence)
    assert kept == {f"i{n}": list(range(1, r.answered + 1)) for n, r in enumerate(reporters)}
    assert all(a.event_id < b.event_id for a, b in itertools.pairwise(history))
    with closing(sqlite3.connect(opscore.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_five_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    survives(tmp_path, 5)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    survives(tmp_path, 100)
