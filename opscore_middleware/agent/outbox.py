"""What is still to be told: bounded, with the newest state always in it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from opscore_middleware.agent.results import RESULT, TaskResult
from opscore_middleware.core.states import AgentState

__all__ = ["Entry", "Instance", "Outbox"]


_ROOM_IN_A_RUSH: Final = 16
_TASK: Final = "opscore_task_id"  # in the details of what starts or ends a task
_ERROR: Final = AgentState.ERROR  # looking a member up costs as much as the whole comparison


class Instance(NamedTuple):
    """One process start, as far as reports go; `started_at` is in seconds since the epoch."""

    instance_id: str
    started_at: float


class Entry(NamedTuple):
    """One transition on its way; `at` is in seconds since the epoch.

    `coalesced` counts the transitions that were folded into this one, `errors` the failures among
    them.
    """

    instance: Instance
    sequence: int
    state: AgentState
    at: float
    details: dict[str, Any] | None
    coalesced: int
    errors: int


INSTANCE, SEQUENCE, STATE, AT, DETAILS, COALESCED, ERRORS = range(len(Entry._fields))
"""Where a plain tuple has the fields of an `Entry`."""


class Outbox:
    """A bounded queue between the app, which puts, and one reporter, which takes.

    When it is full each entry is folded into the next, so the newest state is never lost and the
    memory is flat; the earliest transitions, which tell how an outage began, are kept.
    Entries about a task are not folded into others, and so stay while there is room; their results
    are bounded in bytes, and the earliest of them go first, since their tasks may have timed out.

    In a rush, once it is full, what follows without details need not be put at all: of all that
    only the newest counts, and that is asked for when it is taken. While a rush goes on there is
    less room: of thousands of transitions between two deliveries hundreds say no more than a few,
    and cost as much as the requests that they are of.

    Args:
        limit: how many entries to keep at most.
        most_bytes: how many bytes of results to keep at most.
    """

    __slots__ = (
        "_folded",
        "_folding",
        "_meanwhile",
        "_most_bytes",
        "_room",
        "_rush",
        "dropped",
        "entries",
        "heard",
        "limit",
        "lock",
        "rushing",
        "standing",
    )

    def __init__(self, limit: int = 256, most_bytes: int = 1 << 20) -> None:
        self.limit = limit
        self._most_bytes = most_bytes
        self.heard: deque[tuple[Any, ...]] | None = None
        """A copy of each entry for who listens in this process; None where nobody does."""
        self.standing: Callable[[], tuple[int, AgentState, float]] | None = None
        """Says the sequence, the state and the time of the newest transition, whether it was put
        or not; None where all are put."""
        self.dropped = 0
        """Transitions that nothing tells of, since a newer instance came after them, so far."""
        self._folded = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything, in a forked child, with a lock that nobody holds."""
        # Reentrant: the garbage collector runs wherever something is allocated, here as well, and
        # closes the coroutines of abandoned requests, whose last transitions are then put.
        self.lock = threading.RLock()
        """Held by who puts."""
        self.entries: deque[tuple[Any, ...]] = deque()
        """The fields of each `Entry` in a plain tuple: one is made twice in every request."""
        self._rush: tuple[Any, ...] | None = None  # the first of a rush, with what it has folded in
        self.rushing = False
        """What follows without details need not be put, but may only be counted."""
        self._room = self.limit
        self._folding = False
        self._meanwhile: list[tuple[Any, ...]] = []  # what the collector puts while that is set

    def __len__(self) -> int:
        return len(self.entries) + self.rushing

    @property
    def folded(self) -> int:
        """Transitions that were folded into later ones, so far."""
        with self.lock:
            rush = self._rush
            return self._folded + (0 if rush is None else self._newest_of(rush)[COALESCED])

    def put(self, entry: tuple[Any, ...]) -> None:
        """Append an entry; the caller holds the lock, and has closed a rush before it began."""
        entries = self.entries
        if not self._folding and len(entries) < self._room:
            entries.append(entry)
        elif self._folding:
            self._meanwhile.append(entry)
        else:
            self._folding = True
            try:
                self._fold(entries.pop(), entry)
                self._may_start_rush(entry, entries.pop())
            finally:  # an interrupt may land anywhere
                self._folded_all()

    def _folded_all(self) -> None:
        self._folding = False
        if self._meanwhile:
            # Beyond the room that there is: it is soon made again.
            meanwhile, self._meanwhile = self._meanwhile, []
            self.entries.extend(meanwhile)

    def _may_start_rush(self, entry: tuple[Any, ...], last: tuple[Any, ...]) -> None:
        if self._starts_rush(entry) and not self._meanwhile:
            self._rush, self.rushing = last, True
            self._folded -= last[COALESCED]
        else:
            self.entries.append(last)

    def _starts_rush(self, entry: tuple[Any, ...]) -> bool:
        if entry[DETAILS] is not None or entry[STATE] is _ERROR:
            return False
        # Who listens here hears of every one; what the collector has put meanwhile is newer.
        standing = self.standing
        return self.heard is None and standing is not None and standing()[0] == entry[SEQUENCE]

    def close(self) -> None:
        """End a rush: what follows is to be put; the caller holds the lock."""
        # From here on whoever puts comes here first, the collector too in the middle of it.
        self.rushing = False
        rush = self._rush
        if rush is not None:
            folding, self._folding = self._folding, True
            try:
                newest = self._newest_of(rush)
                if self._rush is rush:
                    self._rush = None
                    self._folded += newest[COALESCED]
                    self.entries.append(newest)
            finally:
                if not folding:
                    self._folded_all()

    def _newest_of(self, rush: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.standing is None:
            return rush
        sequence, state, at = self.standing()
        coalesced = rush[COALESCED] + sequence - rush[SEQUENCE]
        return (rush[INSTANCE], sequence, state, at, None, coalesced, rush[ERRORS])

    def take(self) -> list[Entry]:
        """Remove and return everything, oldest first."""
        with self.lock:
            self._room = self._room_from_here()
            self.close()
            taken, self.entries = self.entries, deque()
        # Each instance's in order: what the collector puts may overtake what is about to be put.
        lives = groupby(taken, itemgetter(INSTANCE))
        return [Entry._make(e) for _, life in lives for e in sorted(life, key=itemgetter(SEQUENCE))]

    def _room_from_here(self) -> int:
        """Return how many entries to keep until the next time: few, where all that came since the
        last one would not have found room."""
        rush = self._rush  # looked at once: the collector may end it in between
        if rush is None:
            return self.limit
        came = len(self.entries) + 1 + self._newest_of(rush)[COALESCED]
        return min(self.limit, _ROOM_IN_A_RUSH) if came > self.limit else self.limit

    def fold(self, earlier: Entry, later: Entry) -> Entry:
        """Return the later of two that were taken, with the earlier folded into it."""
        with self.lock:
            self._folded += 1
        return Entry._make(_folded(earlier, later))

    def drop(self, entry: tuple[Any, ...]) -> None:
        """Count one that nothing tells of any more, and what was folded into it."""
        with self.lock:
            self.dropped += 1 + entry[COALESCED]
            self._folded -= entry[COALESCED]

    def clear(self) -> None:
        """Forget everything."""
        self.take()

    def make_room(self, result: TaskResult) -> None:
        """Drop the results that leave no room for another one, which is about to be put."""
        with self.lock:
            # A copy, since the collector may end a request meanwhile, and so put.
            held = [e[DETAILS][RESULT] for e in list(self.entries) if _has_result(e[DETAILS])]
            excess = sum(earlier.size for earlier in held) + result.size - self._most_bytes
            for earlier in held:
                if excess <= 0:
                    break
                excess -= earlier.size
                earlier.drop()

    def _fold(self, last: tuple[Any, ...], newest: tuple[Any, ...]) -> None:
        """Append the newest, and what is kept of the one before."""
        entries = self.entries
        if last[INSTANCE] is newest[INSTANCE] and last[SEQUENCE] > newest[SEQUENCE]:
            last, newest = newest, last  # the collector's has overtaken it
        if _is_about_task(last) and len(entries) < 2 * self.limit:
            entries.append(last)
            entries.append(newest)
            self._fold_earlier()
        elif last[INSTANCE] is newest[INSTANCE]:
            self._folded += 1
            entries.append(_folded(last, newest))
        else:
            self.drop(entries.popleft())
            entries.append(last)
            entries.append(newest)

    def _fold_earlier(self) -> None:
        """Fold the last entry that is about no task into the one that follows it."""
        entries = self.entries
        for i in range(len(entries) - 2, 0, -1):
            earlier, later = entries[i - 1], entries[i]
            if not _is_about_task(earlier) and earlier[INSTANCE] is later[INSTANCE]:
                self._folded += 1
                entries[i] = _folded(earlier, later)
                del entries[i - 1]
                return


def _is_about_task(entry: tuple[Any, ...]) -> bool:
    details = entry[DETAILS]
    return details is not None and _TASK in details


def _has_result(details: dict[str, Any] | None) -> bool:
    return details is not None and RESULT in details


def _folded(earlier: tuple[Any, ...], later: tuple[Any, ...]) -> tuple[Any, ...]:
    return (
        *later[:COALESCED],
        later[COALESCED] + earlier[COALESCED] + 1,
        later[ERRORS] + earlier[ERRORS] + (earlier[STATE] is _ERROR),
    )
