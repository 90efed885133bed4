"""Several processes that do the same work: each that dies is replaced, all end together.

The web server's own supervisor runs the web server and nothing around it, so what goes wrong at the
start would be told by a traceback from each worker; this one runs any function.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Final

from opscore_middleware.server.logs import get_logger

__all__ = ["end_with_the_supervisor", "supervise"]

log = get_logger(__name__)

YOUNG: Final = 5.0
"""Who dies before this age, in seconds, would likely do so again at once."""
PAUSE: Final = 1.0
"""How long the place of one who died young stays empty, in seconds."""
END_WITHIN: Final = 10.0
"""How long workers may take to end once they were asked to, in seconds."""


def supervise(work: Callable[[], None], count: int) -> None:
    """Run `work` in `count` processes until SIGTERM or SIGINT, and return once all have ended.

    `work` is pickled for them, and returns in order when its process gets SIGTERM.
    """
    with _told_to_stop() as told:
        places = [_Place(work) for _ in range(count)]
        log.info("workers_started", workers=count)
        try:
            stopping = False
            while not stopping:
                for place in places:
                    place.fill()
                stopping = _wait(places, told)
        finally:
            _end(places)
    log.info("workers_stopped", workers=count)


def end_with_the_supervisor() -> None:
    """See that this process gets SIGTERM when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="opscore-worker", daemon=True).start()


class _Place:
    """Where one worker after the other runs."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._started = 0.0
        self.worker: BaseProcess | None = None
        self.empty_until = 0.0

    def fill(self) -> None:
        """Start a worker where none runs, unless the last one died too young just now."""
        if self.worker is not None and not self.worker.is_alive():
            self._bury(self.worker)
        if self.worker is None and time.monotonic() >= self.empty_until:
            # A fresh interpreter: a copy of this process would share its threads' locks.
            context = multiprocessing.get_context("spawn")
            self._started = time.monotonic()
            self.worker = context.Process(target=self._work, daemon=True)
            self.worker.start()

    def _bury(self, worker: BaseProcess) -> None:
        now = time.monotonic()
        young = now - self._started < YOUNG
        log.error("worker_died", worker=worker.pid, exit_code=worker.exitcode)
        worker.close()
        self.worker = None
        self.empty_until = now + PAUSE if young else now


@contextmanager
def _told_to_stop() -> Iterator[socket.socket]:
    """Yield what can be waited for, and is ready once SIGTERM or SIGINT has come."""
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)

    def tell(*_: object) -> None:
        try:
            mouth.send(b"x")
        except OSError:  # told often enough
            pass

    with ear, mouth:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, tell)
        yield ear


def _wait(places: list[_Place], told: socket.socket) -> bool:
    """Wait until there is something to do, and return whether that is to stop."""
    running = [place.worker.sentinel for place in places if place.worker is not None]
    empty = [place.empty_until for place in places if place.worker is None]
    timeout = max(0.0, min(empty) - time.monotonic()) if empty else None
    return told in wait([told, *running], timeout=timeout)


def _end(places: list[_Place]) -> None:
    workers = [place.worker for place in places if place.worker is not None]
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + END_WITHIN
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            log.error("worker_killed", worker=worker.pid)
            worker.kill()
            worker.join()
