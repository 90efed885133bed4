"""The outbox: bounded, with the newest state always in it, and an honest count of the rest."""

from __future__ import annotations

import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.agent.outbox import Entry, Instance, Outbox
from opscore_middleware.core.states import AgentState

STATES = [AgentState.IDLE, AgentState.ACTIVE, AgentState.ERROR]


def put(outbox: Outbox, instance: Instance, sequence: int, state: AgentState) -> None:
    """Put as the tracker does."""
    with outbox.lock:
        outbox.put((instance, sequence, state, 0.0, None, 0, 0))


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
    assert outbox.folded == sum(e.coalesced for e in taken)
    told = sum(e.errors + (e.state is AgentState.ERROR) for e in taken)
    assert told == errors if outbox.dropped == 0 else told <= errors


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


TASK = {"opscore_task_id": "t.1"}


def put_task(outbox: Outbox, instance: Instance, sequence: int) -> None:
    """Put an entry that starts or ends a task."""
    with outbox.lock:
        outbox.put((instance, sequence, AgentState.ACTIVE, 0.0, TASK, 0, 0))


def test_what_tells_of_a_task_stays_while_there_is_room() -> None:
    outbox, instance = Outbox(4), Instance("i", 0.0)
    for sequence in range(1, 41):
        if sequence % 10 == 0:
            put_task(outbox, instance, sequence)
        else:
            put(outbox, instance, sequence, STATES[sequence % 3])
    kept = outbox.take()
    assert [e.sequence for e in kept if e.details] == [10, 20, 30, 40]
    assert len(kept) + sum(e.coalesced for e in kept) + outbox.dropped == 40


def test_tasks_and_a_taking_reporter_at_once_lose_nothing_and_keep_order() -> None:
    outbox, instance, puts = Outbox(8), Instance("i", 0.0), 20_000
    taken: list[Entry] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            taken.extend(outbox.take())
        taken.extend(outbox.take())

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reporter = threading.Thread(target=take)
    reporter.start()
    try:
        for sequence in range(1, puts + 1):
            if sequence % 3:
                put_task(outbox, instance, sequence)
            else:
                put(outbox, instance, sequence, AgentState.IDLE)
    finally:
        done.set()
        reporter.join()
        sys.setswitchinterval(switch)
    sequences = [entry.sequence for entry in taken]
    assert sequences == sorted(set(sequences))
    assert sequences[-1] == puts
    assert len(taken) + sum(entry.coalesced for entry in taken) + outbox.dropped == puts


def test_what_the_collector_puts_in_the_middle_of_a_fold_is_counted_as_well() -> None:
    outbox, instance = Outbox(2), Instance("i", 0.0)

    class Collected(dict[str, str]):
        """Details that put an entry when they are looked at, as the collector might."""

        def __contains__(self, key: object) -> bool:
            if key == "opscore_task_id" and not meanwhile:
                meanwhile.append(3)
                put(outbox, instance, 3, AgentState.ACTIVE)
            return super().__contains__(key)

    meanwhile: list[int] = []
    put(outbox, instance, 1, AgentState.IDLE)
    outbox.put((instance, 2, AgentState.ERROR, 0.0, Collected(), 0, 0))
    for sequence in (4, 5, 6):
        put(outbox, instance, sequence, AgentState.IDLE)
    kept = outbox.take()
    assert meanwhile == [3]
    assert kept[-1].sequence == 6
    assert len(kept) + sum(entry.coalesced for entry in kept) == 6
    assert sum(entry.errors for entry in kept) == 1
    assert outbox.folded == sum(entry.coalesced for entry in kept)


def test_a_new_instance_is_never_folded_into_the_one_before() -> None:
    outbox = Outbox(3)
    earlier, later = Instance("1", 0.0), Instance("2", 1.0)
    for sequence in range(1, 11):
        put(outbox, earlier, sequence, AgentState.IDLE)
    for sequence in range(1, 11):
        put(outbox, later, sequence, AgentState.IDLE)
    kept = outbox.take()
    assert [(e.instance, e.sequence) for e in kept][-1] == (later, 10)
    assert len(kept) + sum(entry.coalesced for entry in kept) + outbox.dropped == 20
    assert outbox.folded == sum(entry.coalesced for entry in kept)
