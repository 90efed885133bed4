"""Which workers hang, as their supervisor tells by how long each has been silent."""

from __future__ import annotations

import multiprocessing

import pytest

from opscore_middleware.server.board import Page
from opscore_middleware.server.workers import STARTING, Silence, hanging

WORKS = Silence(0.5, has_begun=True)
HANGS = Silence(16.0, has_begun=True)


def test_who_is_silent_for_longer_than_is_waited_for_hangs() -> None:
    assert hanging([WORKS, HANGS, Silence(14.0, has_begun=True)], patience=15.0) == [1]


def test_all_that_are_silent_at_once_have_four_times_as_long() -> None:
    assert hanging([HANGS, HANGS], patience=15.0) == []
    assert hanging([HANGS, Silence(61.0, has_begun=True)], patience=15.0) == [1]


def test_who_has_only_started_has_a_minute_whatever_the_others_do() -> None:
    starts = Silence(STARTING, has_begun=False)
    assert hanging([WORKS, starts, HANGS], patience=15.0) == [2]
    assert hanging([WORKS, starts._replace(seconds=STARTING + 1)], patience=15.0) == [1]


def test_a_page_is_read_as_it_was_written_last_and_takes_no_more_than_it_has_room_for() -> None:
    page = Page(multiprocessing.get_context("spawn"), room=8)
    assert page.read() == b""
    for text in (b"12345678", b"\x00", b"", b"abc"):
        page.write(text)
        assert page.read() == text
    with pytest.raises(ValueError, match="9 bytes are more than a page holds, which is 8"):
        page.write(b"123456789")
    assert page.read() == b"abc"
