"""Signals: heard at once, and left to whoever handled them before."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from opscore_middleware.agent.signals import SignalWatch


@pytest.fixture
def hosts() -> Iterator[list[int]]:
    """Handle SIGTERM as a server does; return what it has heard."""
    heard: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    yield heard
    signal.signal(signal.SIGTERM, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_both_hear_and_the_host_decides(hosts: list[int]) -> None:
    ours: list[str] = []
    watch = SignalWatch(lambda: ours.append("ours"))
    watch.install()
    watch.install()  # a second lifespan changes nothing
    terminate()
    assert (ours, hosts) == (["ours"], [signal.SIGTERM])
    watch.uninstall()
    terminate()
    assert (ours, hosts) == (["ours"], [signal.SIGTERM] * 2)


def test_an_agent_that_ends_first_does_not_cut_the_host_off(hosts: list[int]) -> None:
    """Two agents in one process; the one whose handler lies beneath the other's goes first."""
    ours: list[str] = []
    first, second = (SignalWatch(lambda name=name: ours.append(name)) for name in "ab")
    first.install()
    second.install()
    first.uninstall()
    terminate()
    assert hosts == [signal.SIGTERM]
    second.uninstall()
    terminate()
    assert hosts == [signal.SIGTERM] * 2


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        watch = SignalWatch(lambda: None)
        watch.install()
        terminate()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        watch.uninstall()
    finally:
        signal.signal(signal.SIGTERM, before)
