"""`opscore serve` on PostgreSQL: replicas as real processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.postgres import PASSWORD, PostgresServer, empty
from tests.support.processes import (
    OpsCoreProcess,
    clean_environment,
    opscore_command,
    running_opscore,
)
from tests.support.waiting import wait_until

KEY = "open-sesame"


@pytest.fixture
def server(mortal_postgres: PostgresServer) -> PostgresServer:
    """A server that runs and holds nothing."""
    mortal_postgres.restart()
    empty(mortal_postgres.local_url)
    return mortal_postgres


@pytest.fixture
def replicas(server: PostgresServer, tmp_path: Path) -> Iterator[list[OpsCoreProcess]]:
    """Two servers that were started on one empty database."""
    places = [tmp_path / name for name in ("one", "other")]
    for place in places:
        place.mkdir()
    with (
        running_opscore(places[0], KEY, database_url=server.url) as one,
        running_opscore(places[1], KEY, database_url=server.url) as other,
    ):
        yield [one, other]


def client(replica: OpsCoreProcess) -> httpx.Client:
    return httpx.Client(base_url=f"{replica.url}/v1/opscore", headers=replica.headers(), timeout=10)


def report(agent_id: str, sequence: int, state: str = "active") -> dict[str, object]:
    return {
        "agentId": agent_id,
        "timestamp": "2026-09-21T14:13:20Z",
        "state": state,
        "instanceId": "i",
        "sequence": sequence,
    }


def test_replicas_show_one_fleet_and_survive_each_other(replicas: list[OpsCoreProcess]) -> None:
    one, other = replicas
    with client(one) as here, client(other) as there:
        assert httpx.get(f"{one.url}/health").json()["store"] == "postgresql"
        agent_id = here.post("/agents", json={"agentName": "shared"}).json()["agentId"]
        again = there.post("/agents", json={"agentName": "shared"})
        assert (again.status_code, again.json()["agentId"]) == (200, agent_id)
        for sequence in range(1, 21):
            replica = (here, there)[sequence % 2]
            answer = replica.post(f"/agent/{agent_id}/state", json=report(agent_id, sequence))
            assert answer.status_code == 202
        batch = {"reports": [report(agent_id, n, "idle") for n in range(15, 26)]}
        assert there.post(f"/agent/{agent_id}/states", json=batch).json() == {
            "accepted": 5,
            "duplicates": 6,
        }
        assert here.get(f"/agent/{agent_id}/state").json()["state"] == "idle"
        one.kill()
        history = there.get(f"/agents/{agent_id}/history?order=asc").json()["items"]
        assert [line["sequence"] for line in history] == list(range(1, 26))
    assert PASSWORD not in one.log() + other.log()


def test_an_outage_of_the_database_is_told_and_ends_by_itself(
    server: PostgresServer, tmp_path: Path
) -> None:
    with (
        running_opscore(tmp_path, KEY, database_url=server.url) as opscore,
        client(opscore) as http,
    ):
        agent_id = http.post("/agents", json={"agentName": "patient"}).json()["agentId"]
        path = f"/agent/{agent_id}/state"
        assert http.post(path, json=report(agent_id, 1)).status_code == 202
        server.stop()
        away = http.post(path, json=report(agent_id, 2))
        assert (away.status_code, away.json()["code"]) == (503, "store_unavailable")
        assert PASSWORD not in away.text
        server.start()
        wait_until(
            lambda: http.post(path, json=report(agent_id, 2)).status_code == 202,
            message="the server to recover",
        )
        history = http.get(f"/agents/{agent_id}/history").json()["items"]
        assert [line["sequence"] for line in history] == [2, 1]
    assert "Traceback" not in opscore.log()
    assert PASSWORD not in opscore.log()


def test_a_database_that_lets_nobody_in_ends_the_start_with_one_clear_line(
    server: PostgresServer, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*opscore_command(), "serve", "--port", "0"],
        cwd=tmp_path,
        env=clean_environment(OPSCORE_DATABASE_URL=server.url.replace(PASSWORD, "wr0ng-pw")),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert "check user and password" in done.stderr
    assert "wr0ng-pw" not in done.stderr
    assert done.stderr.count("\n") == 1
