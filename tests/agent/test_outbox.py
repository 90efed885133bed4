"""The outbox: bounded, with the newest state always in it, and an honest count of the rest."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.agent.outbox import Entry, Instance, Outbox
from opscore_middleware.core.states import AgentState

STATES = [AgentState.IDLE, AgentState.ACTIVE, AgentState.ERROR]


def put(outbox: Outbox, instance: Instance, sequence: int, state: AgentState) -> None:
    """Put as the tracker does."""
    outbox.entries.append((instance, sequence, state, 0.0, None, 0, 0))
    if len(outbox.entries) > outbox.limit:
        outbox.fold()


def test_what_fits_is_kept_as_it_was() -> None:
    outbox, instance = Outbox(3), Instance("i", 0.0)
    for sequence in (1, 2, 3):
        put(outbox, instance, sequence, AgentState.IDLE)
    assert [(e.sequence, e.coalesced) for e in outbox.take()] == [(1, 0), (2, 0), (3, 0)]
    assert len(outbox) == 0


def test_an_outage_keeps_how_it_began_and_how_it_stands() -> None:
    outbox, instance = Outbox(3), Instance("i", 0.0)
    for sequence in range(1, 101):
        put(outbox, instance, sequence, STATES[sequence % 3])
    kept = outbox.take()
    assert [e.sequence for e in kept] == [1, 2, 100]
    assert kept[-1].state is STATES[100 % 3]
    assert kept[-1].coalesced == 97


# Each number is an event: 0..2 put that state, 3 starts a new instance, 4 takes everything.
@given(st.lists(st.integers(0, 4), max_size=200), st.integers(2, 8))
def test_nothing_goes_uncounted_and_the_newest_is_never_lost(events: list[int], limit: int) -> None:
    outbox = Outbox(limit)
    instance, sequence, starts, puts, errors = Instance("0", 0.0), 0, 0, 0, 0
    taken: list[Entry] = []
    for event in [*events, 0, 4]:
        if event == 4:
            taken += outbox.take()
            assert taken[-1:] == [] or taken[-1].sequence == sequence or sequence == 0
        elif event == 3:
            starts, sequence = starts + 1, 0
            instance = Instance(str(starts), 0.0)
        else:
            sequence, puts = sequence + 1, puts + 1
            errors += STATES[event] is AgentState.ERROR
            put(outbox, instance, sequence, STATES[event])
        assert len(outbox) <= limit
    assert taken[-1].instance is instance
    assert taken[-1].sequence == sequence
    order = [(int(e.instance.instance_id), e.sequence) for e in taken]
    assert order == sorted(order)
    assert len(taken) + sum(e.coalesced for e in taken) + outbox.dropped == puts
    told = sum(e.errors + (e.state is AgentState.ERROR) for e in taken)
    assert told == errors if outbox.dropped == 0 else told <= errors


class Snatched(deque[tuple[Any, ...]]):
    """A queue that another thread empties at the chosen call."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at
        self.taken: list[tuple[Any, ...]] = []

    def _snatch(self, call: str) -> None:
        if call == self.at:
            self.at = ""
            while self:
                self.taken.append(super().popleft())

    def pop(self) -> tuple[Any, ...]:  # type: ignore[override]
        value = super().pop()
        self._snatch("pop")
        return value

    def popleft(self) -> tuple[Any, ...]:
        self._snatch("popleft")
        return super().popleft()


def test_folding_survives_a_reporter_that_takes_everything_meanwhile() -> None:
    for at in ("pop", "popleft"):
        outbox = Outbox(2)
        outbox.entries = entries = Snatched(at)
        first, second = Instance("1", 0.0), Instance("2", 0.0)
        for sequence in (1, 2):
            put(outbox, first, sequence, AgentState.IDLE)
        put(outbox, second, 1, AgentState.ACTIVE)
        left = [*entries.taken, *outbox.take()]
        assert left[-1][:2] == (second, 1)


def test_taking_survives_a_fold_meanwhile() -> None:
    outbox, instance = Outbox(4), Instance("i", 0.0)
    outbox.entries = Snatched("popleft")
    for sequence in (1, 2):
        put(outbox, instance, sequence, AgentState.IDLE)
    assert outbox.take() == []  # a fold holds both in its hands, and puts them back


def test_putting_and_taking_at_once_keeps_order_and_count() -> None:
    outbox, instance, puts = Outbox(8), Instance("i", 0.0), 20_000
    taken: list[Entry] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            taken.extend(outbox.take())
        taken.extend(outbox.take())

    reporter = threading.Thread(target=take)
    reporter.start()
    for sequence in range(1, puts + 1):
        put(outbox, instance, sequence, STATES[sequence % 3])
    done.set()
    reporter.join()
    sequences = [entry.sequence for entry in taken]
    assert sequences == sorted(set(sequences))
    assert sequences[-1] == puts
    assert len(taken) + sum(entry.coalesced for entry in taken) == puts
