"""The reporter's thread: woken when needed, never lost, gone when there is nothing to follow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from opscore_middleware.agent import reporter
from opscore_middleware.agent.bell import Bell
from opscore_middleware.agent.outbox import Outbox
from opscore_middleware.agent.reporter import Reporter
from opscore_middleware.agent.tracker import Tracker
from opscore_middleware.core.states import AgentState
from tests.support.waiting import wait_until

NOTHING_LEFT = None


class Deliveries:
    """A deliverer that notes each try and answers as `then` says."""

    def __init__(self, then: Callable[[], float | None] = lambda: NOTHING_LEFT) -> None:
        self.then = then
        self.tries: list[bool] = []
        self.closed = 0

    def deliver(self, *, urgent: bool) -> float | None:
        self.tries.append(urgent)
        return self.then()

    def beat(self) -> float | None:
        return None

    def close(self) -> None:
        self.closed += 1


class Host:
    """A reporter, and whether it may end."""

    def __init__(self) -> None:
        self.over = False
        self.ticks = 0
        self.due: float | None = None
        self.deliveries = Deliveries()
        self.working = False
        self.reporter = Reporter(
            self.deliveries, self._tick, over=lambda: self.over, working=lambda: self.working
        )
        self.wake = self.reporter.bell.wake

    def _tick(self) -> float | None:
        self.ticks += 1
        return self.due

    def ended(self) -> bool:
        return not self.reporter.alive


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.deliveries.then = lambda: NOTHING_LEFT
    host.reporter.stop()


def test_no_thread_runs_before_there_is_something_to_say(host: Host) -> None:
    host.reporter.flush(1)
    assert not host.reporter.alive
    host.wake()
    wait_until(lambda: host.deliveries.tries)


def test_each_wake_is_followed_by_a_look(host: Host) -> None:
    """A wake that is lost would leave the newest state untold until something else happens."""
    news = 0
    seen = 0

    def look() -> float | None:
        nonlocal seen
        seen = news
        return NOTHING_LEFT

    host.deliveries.then = look
    for _ in range(500):
        news += 1
        host.wake()
        wait_until(lambda news=news: seen == news, message="the news to be seen")


def test_work_that_goes_on_is_told_of_before_it_ends(host: Host) -> None:
    host.working = True
    host.wake()
    wait_until(lambda: host.deliveries.tries)


def test_wakes_from_many_threads_are_never_lost(host: Host) -> None:
    outbox = Outbox()
    taken: list[int] = []
    host.deliveries.then = lambda: taken.extend(e.sequence for e in outbox.take())
    tracker = Tracker(outbox, host.reporter.bell)
    tracker.ready()

    def work() -> None:
        for _ in range(300):
            tracker.end(tracker.begin())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: not len(outbox), message="the outbox to be empty")
    assert taken == sorted(taken)
    assert tracker.state is AgentState.IDLE


def test_flush_returns_as_soon_as_everything_was_tried(host: Host) -> None:
    host.wake()
    wait_until(lambda: host.deliveries.tries)
    started = time.monotonic()
    host.reporter.flush(5)
    assert time.monotonic() - started < 1
    assert host.deliveries.tries[-1] is True


def test_flush_tries_at_once_though_a_retry_is_far_off(host: Host) -> None:
    host.deliveries.then = lambda: 3600.0
    host.wake()
    wait_until(lambda: host.deliveries.tries)
    host.reporter.flush(5)
    assert host.deliveries.tries[-1] is True


def test_flush_waits_no_longer_than_told(host: Host) -> None:
    blocked = threading.Event()

    def block() -> float | None:
        blocked.wait(10)
        return NOTHING_LEFT

    host.deliveries.then = block
    host.wake()
    wait_until(lambda: host.deliveries.tries)
    started = time.monotonic()
    host.reporter.flush(0.05)
    assert 0.04 < time.monotonic() - started < 1
    blocked.set()


def test_flushes_from_many_threads_all_return_early(host: Host) -> None:
    host.wake()
    slow: list[float] = []

    def flush() -> None:
        for _ in range(100):
            started = time.monotonic()
            host.reporter.flush(5)
            if time.monotonic() - started > 2:
                slow.append(started)

    threads = [threading.Thread(target=flush) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slow == []


def test_a_flush_returns_early_though_its_delivery_fails(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.wake()
    wait_until(lambda: host.deliveries.tries)
    host.deliveries.then = lambda: 1 // 0
    started = time.monotonic()
    host.reporter.flush(5)
    assert time.monotonic() - started < 2


def test_deadlines_are_kept_while_a_delivery_is_waited_for(host: Host) -> None:
    """A read that begins during an outage counts after its grace, not after the next retry."""
    host.due = 3600.0
    host.deliveries.then = lambda: 3600.0
    host.wake()
    wait_until(lambda: host.ticks)
    host.due = None
    before = host.ticks
    wait_until(lambda: host.ticks > before, timeout=2, message="another look at the deadlines")


def test_a_fault_is_logged_once_and_delivery_goes_on(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host.deliveries.then = lambda: 1 // 0
    host.wake()
    for tries in (1, 2, 3):
        wait_until(lambda tries=tries: len(host.deliveries.tries) >= tries)
        host.reporter.bell.ring()
    host.deliveries.then = lambda: NOTHING_LEFT
    tries = len(host.deliveries.tries)
    wait_until(lambda: len(host.deliveries.tries) > tries)
    assert len([r for r in caplog.records if r.name == "opscore_middleware"]) == 1


def test_the_thread_ends_once_nothing_can_follow(host: Host) -> None:
    host.over = True
    host.wake()
    wait_until(host.ended)
    assert host.deliveries.closed == 1


def test_the_thread_starts_again_for_another_life(host: Host) -> None:
    host.over = True
    for life in range(1, 20):
        before = len(host.deliveries.tries)
        host.wake()
        wait_until(lambda before=before: len(host.deliveries.tries) > before)
        wait_until(host.ended, message=f"life {life} to end")


def test_the_next_life_never_loses_its_connection_to_the_last_one(host: Host) -> None:
    """The connection is closed before another thread may start to use it."""
    lives: list[bool] = []
    host.deliveries.close = lambda: lives.append(host.reporter.alive)  # type: ignore[method-assign]
    host.over = True
    host.wake()
    wait_until(host.ended)
    assert lives == [True]


def test_an_agent_speaks_again_after_a_thread_could_not_start(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        host.wake()  # must not reach the request either
    assert not host.reporter.alive
    host.wake()
    wait_until(lambda: host.deliveries.tries, message="the thread to start after all")


def test_a_stopped_reporter_tries_once_more_and_ends(host: Host) -> None:
    host.deliveries.then = lambda: 3600.0
    host.wake()
    wait_until(lambda: host.deliveries.tries)
    host.reporter.stop()
    wait_until(host.ended)
    assert host.deliveries.tries[-1] is True
    host.wake()
    assert host.ended()


def test_ringing_is_safe_where_a_signal_interrupts_it() -> None:
    bell = Bell(lambda: None)
    bell.home = True
    for _ in range(3):
        bell.ring()  # never blocks, never raises
    started = time.monotonic()
    bell.listen(5)
    assert time.monotonic() - started < 1


def test_a_log_that_raises_does_not_end_the_thread(host: Host) -> None:
    def refuse(record: logging.LogRecord) -> bool:
        raise ValueError("no such field")

    def fail() -> float | None:
        raise RuntimeError("no ink")

    ours = logging.getLogger("opscore_middleware")
    ours.addFilter(refuse)
    host.deliveries.then = fail
    try:
        host.wake()
        wait_until(lambda: len(host.deliveries.tries) == 1)
        host.deliveries.then = lambda: NOTHING_LEFT
        host.reporter.flush(5)
        assert len(host.deliveries.tries) > 1
    finally:
        ours.removeFilter(refuse)


def test_what_goes_on_is_told_though_the_clock_stands_still(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does under libraries that freeze time for tests."""
    host.wake()
    wait_until(lambda: host.deliveries.tries)
    host.working = True
    still = SimpleNamespace(monotonic=lambda: 0.0, sleep=time.sleep)
    monkeypatch.setattr(reporter, "time", still)
    host.wake()
    wait_until(lambda: len(host.deliveries.tries) > 1)
