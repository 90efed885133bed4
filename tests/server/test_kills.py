"""Killed again and again in the middle of everything: no answer is taken back, none kept twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.processes import running_opscore
from tests.support.siege import besiege, watch_often


def survives(directory: Path, rounds: int) -> None:
    with running_opscore(directory, **watch_often) as opscore:
        besiege([opscore], rounds)
    with closing(sqlite3.connect(opscore.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_two_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    survives(tmp_path, 2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    survives(tmp_path, 100)
