"""The garbage collector ends abandoned requests in the middle of whatever allocates or calls."""

from __future__ import annotations

import dis
import itertools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Self

import pytest

from opscore_middleware.agent.bell import Bell
from opscore_middleware.agent.outbox import Entry, Instance, Outbox
from opscore_middleware.agent.tracker import Tracker
from opscore_middleware.core.states import AgentState

OURS: Final = ("agent/tracker.py", "agent/outbox.py")
AFTER: Final = {
    *("RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "GET_ITER"),
    *("BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "DICT_UPDATE", "LIST_EXTEND", "LIST_TO_TUPLE"),
}
"""After these, CPython may collect: where it allocates, and, from 3.12 on, where it breaks."""
ENDED: Final = {"opscore_task_id": "a", "opscore_task_state": "completed"}
WHY: Final = {"error": {"type": "ValueError", "message": "no ink"}}


class Interruption:
    """Calls `meanwhile` once, at the nth place of our code at which the collector may run."""

    def __init__(self, meanwhile: Callable[[], None], at: int) -> None:
        self._meanwhile = meanwhile
        self._left = at
        self._before: dict[FrameType, str] = {}
        self.done = False

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, _event: str, _value: object) -> Any:
        if not frame.f_code.co_filename.endswith(OURS):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, _value: object) -> Any:
        if event == "opcode":
            before = self._before.get(frame)
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before in AFTER and not self.done:
                self.done = self._left == 0
                self._left -= 1
                if self.done:
                    sys.settrace(None)
                    self._meanwhile()
                    return None
        elif event == "return" and frame.f_back in self._before:
            self._before[frame.f_back] = "a call of ours"
        return self._step


def read_that_lasts(tracker: Tracker) -> None:
    read = tracker.begin_read()
    read.since -= 10
    tracker.tick()
    tracker.end_read(read)


Step = Callable[[Tracker, Outbox], list[Entry] | None]
STEPS: Final[dict[str, Step]] = {
    "work": lambda tracker, _: tracker.end(tracker.begin()),
    "work on a task": lambda tracker, _: tracker.end(
        tracker.begin({"opscore_task_id": "b"}), ENDED
    ),
    "failure": lambda tracker, _: tracker.fail(tracker.begin(), WHY),
    "take": lambda _, outbox: outbox.take(),
    "restate": lambda tracker, _: tracker.restate(),
    "mention": lambda tracker, _: tracker.mention({"opscore_task_id": "b"}),
    "drain": lambda tracker, _: tracker.drain(),
    "read": lambda tracker, _: read_that_lasts(tracker),
}
MEANWHILE: Final[dict[str, Callable[[Tracker, Instance], None]]] = {
    "end": lambda tracker, unit: tracker.end(unit),
    "end of a task": lambda tracker, unit: tracker.end(unit, ENDED),
    "failure": lambda tracker, unit: tracker.fail(unit, WHY),
}


@pytest.mark.parametrize("before", [0, 1, 3, 6])
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("step", STEPS)
def test_wherever_an_abandoned_request_is_ended_the_order_the_count_and_the_state_are_right(
    step: str, meanwhile: str, before: int
) -> None:
    for at in itertools.count():
        outbox = Outbox(4)
        tracker = Tracker(outbox, Bell(lambda: None))
        tracker.ready()
        for _ in range(before):
            tracker.end(tracker.begin())
        unit = tracker.begin()
        with Interruption(lambda t=tracker, u=unit: MEANWHILE[meanwhile](t, u), at) as collector:  # type: ignore[misc]
            taken = STEPS[step](tracker, outbox) or []
        if not collector.done:
            assert at
            return
        taken += outbox.take()
        view = tracker.view()
        assert view.in_flight == 0
        assert view.state is not AgentState.ACTIVE
        assert [entry.sequence for entry in taken] == sorted({entry.sequence for entry in taken})
        assert len(taken) + sum(entry.coalesced for entry in taken) == view.sequence
        assert outbox.folded == sum(entry.coalesced for entry in taken)
        assert (taken[-1].sequence, taken[-1].state) == (view.sequence, view.state)
