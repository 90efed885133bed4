"""Whatever another thread does in the middle of a step, nothing is left open and all is told."""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from opscore_middleware import AgentState, OpsCoreMiddleware, track
from opscore_middleware.agent.bell import Bell
from opscore_middleware.agent.outbox import Outbox
from opscore_middleware.agent.read import Read
from opscore_middleware.agent.tracker import Tracker
from tests.agent.interruption import Interruption

MOMENT = 0.002
"""Seconds for which a step waits for the other thread, which may wait for the step."""


class Elsewhere:
    """A step that another thread takes, at most once."""

    def __init__(self, step: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=step)
        self._begun = False

    def __call__(self) -> None:
        self._begun = True
        self._thread.start()
        self._thread.join(MOMENT)

    def join(self) -> None:
        if self._begun:
            self._thread.join(10)
            assert not self._thread.is_alive()


def new_tracker(read_grace: float = 0) -> tuple[Tracker, Outbox, list[None]]:
    rung: list[None] = []
    outbox = Outbox(4)
    tracker = Tracker(outbox, Bell(lambda: rung.append(None)), read_grace=read_grace)
    tracker.ready()
    rung.clear()
    return tracker, outbox, rung


Step = Callable[[Tracker, Read], object]
STEPS: dict[str, Step] = {
    "comes to count": lambda tracker, _: tracker.tick(),
    "ends": lambda tracker, read: tracker.end_read(read),
    "turns out to be work": lambda tracker, read: tracker.end(tracker.promote(read)),
    "fails": lambda tracker, read: tracker.fail_read(read, {"error": {"type": "ValueError"}}),
}


@pytest.mark.parametrize("beside", [0, 1])
@pytest.mark.parametrize(
    ("first", "second"),
    [pair for pair in itertools.permutations(STEPS, 2) if "comes to count" in pair],
)
def test_a_read_is_closed_once_whoever_counts_or_closes_it(
    first: str, second: str, beside: int
) -> None:
    for at in itertools.count():
        tracker, outbox, _ = new_tracker()
        units = [tracker.begin() for _ in range(beside)]
        read = tracker.begin_read()
        other = Elsewhere(partial(STEPS[second], tracker, read))
        with Interruption(other, at) as interruption:
            STEPS[first](tracker, read)
        other.join()
        if not interruption.done:
            assert at
            return
        tracker.end_read(read)
        assert tracker.in_flight == beside
        for unit in units:
            tracker.end(unit)
        taken, view = outbox.take(), tracker.view()
        assert view.in_flight == 0
        assert view.state is not AgentState.ACTIVE
        failures = sum(entry.errors + (entry.state is AgentState.ERROR) for entry in taken)
        assert failures == ("fails" in {first, second})
        assert len(taken) + sum(entry.coalesced for entry in taken) == view.sequence


@pytest.mark.parametrize("begins_first", [True, False])
def test_a_read_that_begins_just_as_the_others_are_looked_at_is_not_forgotten(
    begins_first: bool,
) -> None:
    for at in itertools.count():
        tracker, _, rung = new_tracker(read_grace=60)
        tracker.end_read(tracker.begin_read())  # which is still waited for
        rung.clear()
        tracker._bell.marked, tracker._bell.listening = False, True
        due: list[float | None] = []

        def begin(tracker: Tracker = tracker) -> None:
            tracker.begin_read()

        def tick(tracker: Tracker = tracker, due: list[float | None] = due) -> None:
            due.append(tracker.tick())

        other = Elsewhere(tick if begins_first else begin)
        with Interruption(other, at) as interruption:
            (begin if begins_first else tick)()
        other.join()
        if not interruption.done:
            assert at
            return
        assert due[0] is not None or rung or tracker._bell.marked


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b'{"n": 1}', "more_body": False}


async def send(message: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize("outlives", [True, False])
@pytest.mark.parametrize("rush", [False, True])
@pytest.mark.parametrize("kind", ["GET", "POST", "JSON"])
def test_work_that_is_tracked_just_as_its_response_ends_is_counted_once(
    kind: str, rush: bool, outlives: bool
) -> None:
    contexts: list[contextvars.Context] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if kind == "JSON":
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        contexts.append(contextvars.copy_context())

    method = "GET" if kind == "GET" else "POST"
    headers = [(b"content-type", b"application/json")] if kind == "JSON" else []
    middleware = OpsCoreMiddleware(app, agent_name="racer", read_grace=60)
    tracker = middleware._tracker
    middleware._runtime.outbox.limit = 4
    for at in itertools.count():
        contexts.clear()
        middleware._runtime.outbox.clear()
        for _ in range(6 * rush):
            tracker.end(tracker.begin())
        begun, tracked, over = threading.Event(), threading.Event(), threading.Event()

        def job(events: tuple[threading.Event, ...] = (begun, tracked, over)) -> None:
            begun, tracked, over = events
            begun.set()
            with track("job"):
                tracked.set()
                assert not outlives or over.wait(10)

        other = Elsewhere(lambda j=job: contexts[0].run(j) if contexts else None)  # type: ignore[misc]
        scope = {"type": "http", "method": method, "path": "/", "headers": headers}
        with Interruption(other, at) as interruption:
            run(middleware(scope, receive, send))
        if outlives and begun.is_set():
            assert tracked.wait(10)
            assert tracker.in_flight == 1
        over.set()
        other.join()
        view = tracker.view()
        assert (view.in_flight, view.state) == (0, AgentState.IDLE)
        if not interruption.done:
            assert at
            return
