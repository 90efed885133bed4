"""Replicas and their PostgreSQL killed again and again: all that was answered is kept, once, and
whoever watches is told of it, once.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, empty
from tests.support.processes import running_opscore
from tests.support.siege import besiege, watch_often


def survive(server: PostgresServer, directory: Path, *, rounds: int, restarts: int) -> None:
    """Run three replicas, kill one in each round, and their database `restarts` times."""
    server.restart()
    empty(server.local_url)
    with ExitStack() as stack:
        replicas = []
        for name in ("one", "two", "three"):
            place = directory / name
            place.mkdir()
            started = running_opscore(place, "key", database_url=server.url, **watch_often)
            replicas.append(stack.enter_context(started))
        besiege(replicas, rounds, database=server, restarts=restarts)


def test_two_kills_of_replicas_and_one_of_their_database_lose_and_double_nothing(
    mortal_postgres: PostgresServer, tmp_path: Path
) -> None:
    survive(mortal_postgres, tmp_path, rounds=2, restarts=1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_fifty_kills_of_replicas_and_five_of_their_database_lose_and_double_nothing(
    mortal_postgres: PostgresServer, tmp_path: Path
) -> None:
    survive(mortal_postgres, tmp_path, rounds=50, restarts=5)
