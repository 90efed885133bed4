"""Several processes that do the same work: each that dies or hangs is replaced, all end together.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from typing import Final, NamedTuple

from opscore_middleware.server.board import Seat, seats
from opscore_middleware.server.logs import get_logger

__all__ = ["BEAT", "Silence", "Work", "end_with_the_supervisor", "hanging", "supervise"]

log = get_logger(__name__)

Work = Callable[[Seat], None]
"""What a worker does until its process gets SIGTERM; it beats on its seat as long as it works."""

BEAT: Final = 0.5
"""How often a worker beats, in seconds."""
LOOK: Final = 1.0
"""How often the supervisor looks whether workers have beaten, in seconds."""
STARTING: Final = 60.0
"""How long a worker may take to its first beat, in seconds."""
DOUBT: Final = 4.0
"""How many times as long workers may be silent while all of them are."""
YOUNG: Final = 5.0
"""Who dies before this age, in seconds, would likely do so again at once."""
PAUSE: Final = 1.0
"""How long the place of one who died young stays empty, in seconds."""
END_WITHIN: Final = 10.0
"""How long workers may take to end once they were asked to, in seconds."""


def supervise(work: Work, count: int, *, patience: float) -> None:
    """Run `work` in `count` processes until SIGTERM or SIGINT, and return once all have ended.

    `work` is pickled for them, and returns in order when its process gets SIGTERM. A worker that
    does not beat for `patience` seconds hangs, and is killed and replaced.
    """
    # Fresh interpreters: copies of this process would share its threads' locks.
    context = multiprocessing.get_context("spawn")
    with _told_to_stop() as told:
        places = [_Place(work, seat, context) for seat in seats(context, count)]
        log.info("workers_started", workers=count)
        try:
            stopping, looked = False, time.monotonic()
            while not stopping:
                for place in places:
                    place.fill()
                stopping = _wait(places, told)
                now = time.monotonic()
                _look(places, elapsed=now - looked, patience=patience)
                looked = now
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


class Silence(NamedTuple):
    """How long a worker has not beaten, in seconds, and whether it ever has."""

    seconds: float
    has_begun: bool


def hanging(silences: Sequence[Silence], *, patience: float) -> list[int]:
    """Return which workers hang.

    Where all are silent at once it is likelier that the machine has no time for any of them; they
    have four times as long.
    """
    together = all(one.seconds > 2 * LOOK for one in silences if one.has_begun)
    limit = patience * (DOUBT if together else 1.0)
    return [
        number
        for number, one in enumerate(silences)
        if one.seconds > (limit if one.has_begun else STARTING)
    ]


class _Place:
    """Where one worker after the other runs."""

    def __init__(self, work: Work, seat: Seat, context: SpawnContext) -> None:
        self._work = work
        self._seat = seat
        self._context = context
        self._started = 0.0
        self._heard = 0
        self.worker: BaseProcess | None = None
        self.empty_until = 0.0
        self.silence = Silence(0.0, has_begun=False)

    def fill(self) -> None:
        """Start a worker where none runs, unless the last one died too young just now."""
        if self.worker is not None and not self.worker.is_alive():
            self._bury(self.worker)
        if self.worker is None and time.monotonic() >= self.empty_until:
            self._started = time.monotonic()
            self._heard = self._seat.beats
            self.silence = Silence(0.0, has_begun=False)
            self.worker = self._context.Process(target=self._work, args=(self._seat,), daemon=True)
            self.worker.start()

    def listen(self, elapsed: float) -> None:
        """Hear whether the worker has beaten in these seconds."""
        beats = self._seat.beats
        if beats != self._heard:
            self._heard, self.silence = beats, Silence(0.0, has_begun=True)
        else:
            seconds, has_begun = self.silence
            self.silence = Silence(seconds + elapsed, has_begun)

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
    """Wait until there may be something to do, and return whether that is to stop."""
    running = [place.worker.sentinel for place in places if place.worker is not None]
    empty = [place.empty_until - time.monotonic() for place in places if place.worker is None]
    return told in wait([told, *running], timeout=max(0.0, min([LOOK, *empty])))


def _look(places: list[_Place], *, elapsed: float, patience: float) -> None:
    """Kill the workers that hang; their places are filled like those of others that die."""
    running = [place for place in places if place.worker is not None]
    for place in running:
        # Time in which this process was stopped or had no turn either proves nothing.
        place.listen(min(elapsed, 2 * LOOK))
    for number in hanging([place.silence for place in running], patience=patience):
        worker, silence = running[number].worker, running[number].silence
        if worker is not None:
            log.error("worker_hangs", worker=worker.pid, silent=round(silence.seconds, 1))
            worker.kill()
            worker.join()


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
