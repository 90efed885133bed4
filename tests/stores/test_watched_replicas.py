"""Two servers on one PostgreSQL: whoever watches one is told what the other took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.reporters import Reporters
from tests.support.streams import watching

KEY = "open-sesame"


@pytest.fixture
def replicas(postgres: str, tmp_path: Path) -> Iterator[list[OpsCoreProcess]]:
    """Two running servers that share a database."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with (
        running_opscore(first, key=KEY, database_url=postgres) as one,
        running_opscore(second, key=KEY, database_url=postgres) as two,
    ):
        yield [one, two]


def test_all_replicas_tell_the_same_events_in_the_same_order_wherever_they_were_taken(
    replicas: list[OpsCoreProcess],
) -> None:
    agents = [Reporters(replica) for replica in replicas]
    agent_id = agents[0].register()
    count = 2 * 15 * 4

    def write(number: int) -> None:
        for batch in range(15):
            states = ["active"] * 4
            agents[number].report(agent_id, *states, instance=f"i-{number}", first=4 * batch + 1)

    with ThreadPoolExecutor(2) as threads:
        headers = replicas[0].headers()
        told: list[int] = []
        position = "0"
        writing = [threads.submit(write, number) for number in range(2)]
        # One reader goes from one replica to the other, and comes back where it was.
        for turn in range(6):
            url = replicas[turn % 2].url
            with watching(url, {**headers, "Last-Event-ID": position}) as stream:
                events = stream.read_events(min(count // 6, count - len(told)))
            told += [event["eventId"] for event in events]
            position = stream.last_id or position
            if len(told) >= count:
                break
        for writer in writing:
            writer.result()
    kept = [event["eventId"] for event in agents[1].history(agent_id)]
    assert told == kept[: len(told)]
    assert len(kept) == count
    for reporters in agents:
        reporters.http.close()


def test_what_another_replica_took_is_told_at_once(replicas: list[OpsCoreProcess]) -> None:
    agents = Reporters(replicas[0])
    agent_id = agents.register()
    with watching(replicas[1].url, replicas[1].headers()) as stream:
        agents.report(agent_id, "idle")
        stream.read_events(1)  # from now on it listens
        times = []
        for sequence in range(2, 7):
            began = time.monotonic()
            agents.report(agent_id, "idle", first=sequence)
            stream.read_events(sequence)
            times.append(time.monotonic() - began)
        # To look for itself would take it a second at least.
        assert sorted(times)[2] < 0.9
    agents.http.close()
