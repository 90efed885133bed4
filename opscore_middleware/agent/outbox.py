"""What is still to be told: bounded, with the newest state always in it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final, NamedTuple

from opscore_middleware.agent.results import RESULT, TaskResult
from opscore_middleware.core.states import AgentState

__all__ = ["Entry", "Instance", "Outbox"]


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


class Outbox:
    """A bounded queue between the app, which puts, and one reporter, which takes.

    When it is full the last entries are folded into one, an eighth of them at a time, so the newest
    state is never lost and the memory is flat; the earliest transitions, which tell how an outage
    began, are kept.
    Entries about a task are not folded into others, and so stay while there is room; their results
    are bounded in bytes, and the earliest of them go first, since their tasks may have timed out.
    Appending to `entries` and `fold` must not overlap (the tracker's lock sees to it); `take` may
    run at any time, but for the moment of a fold: what it has taken can no longer change.

    Args:
        limit: how many entries to keep at most.
        most_bytes: how many bytes of results to keep at most.
    """

    __slots__ = ("_lock", "_most_bytes", "dropped", "entries", "folded", "heard", "limit")

    def __init__(self, limit: int = 256, most_bytes: int = 1 << 20) -> None:
        self.limit = limit
        self._most_bytes = most_bytes
        self._lock = threading.Lock()  # keeps folding and taking apart
        self.entries: deque[tuple[Any, ...]] = deque()
        """The fields of each `Entry` in a plain tuple: one is made twice in every request."""
        self.heard: deque[tuple[Any, ...]] | None = None
        """A copy of each entry for who listens in this process; None where nobody does."""
        self.folded = 0
        """Transitions that were folded into later ones, so far."""
        self.dropped = 0
        """Transitions that had to go because a newer instance has as much to tell, so far."""

    def __len__(self) -> int:
        return len(self.entries)

    def take(self) -> list[Entry]:
        """Remove and return everything, oldest first."""
        entries = self.entries
        with self._lock:
            return [Entry._make(entries.popleft()) for _ in range(len(entries))]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.entries.clear()

    def reset(self) -> None:
        """Forget everything, in a forked child where nobody holds the lock any more."""
        self._lock = threading.Lock()
        self.entries.clear()

    def make_room(self, result: TaskResult) -> None:
        """Drop the results that leave no room for another one, which is about to be appended.

        Must not overlap with `fold`. Does nothing while the reporter takes, which makes all the
        room there is.
        """
        if not self._lock.acquire(False):
            return
        try:
            # A copy, since the collector may end a request meanwhile, and so append.
            held = [entry[4][RESULT] for entry in list(self.entries) if _has_result(entry[4])]
            excess = sum(earlier.size for earlier in held) + result.size - self._most_bytes
            for earlier in held:
                if excess <= 0:
                    break
                excess -= earlier.size
                earlier.drop()
        finally:
            self._lock.release()

    def fold(self) -> None:
        """Make room for one entry; to be called after an append that went over `limit`.

        Does nothing while the reporter takes, which makes more room than this. Waiting for it
        could be for ever: the collector may end a request within `take`, and so come here.
        """
        lock = self._lock
        if not lock.acquire(False):
            return
        try:
            entries = self.entries
            if len(entries) > self.limit:
                self._fold_tail(entries, self.limit - self.limit // 8)
        finally:
            lock.release()

    def _fold_tail(self, entries: deque[tuple[Any, ...]], kept: int) -> None:
        """Fold the last entries into the newest, so that `kept` are left.

        Written out, and several at a time: a busy agent comes here with each transition while the
        reporter rests.
        """
        instance, sequence, state, at, details, coalesced, errors = entries.pop()
        while len(entries) >= kept:
            last = entries.pop()
            about = last[4]
            if last[0] is not instance or (about is not None and _TASK in about):
                newest = (instance, sequence, state, at, details, coalesced, errors)
                self._fold(last, newest)
                return
            coalesced += last[5] + 1
            errors += last[6] + (last[2] is _ERROR)
            self.folded += 1
        entries.append((instance, sequence, state, at, details, coalesced, errors))

    def _fold(self, last: tuple[Any, ...], newest: tuple[Any, ...]) -> None:
        entries = self.entries
        if last[4] is not None and _TASK in last[4] and len(entries) < 2 * self.limit:
            entries.append(last)
            entries.append(newest)
            self._fold_earlier()
        elif last[0] is newest[0]:
            self.folded += 1
            entries.append(_folded(last, newest))
        else:
            self.dropped += 1 + entries.popleft()[5]
            entries.append(last)
            entries.append(newest)

    def _fold_earlier(self) -> None:
        """Fold the last entry that is about no task into the one that follows it."""
        entries = self.entries
        for i in range(len(entries) - 2, 0, -1):
            earlier, later = entries[i - 1], entries[i]
            about_task = earlier[4] is not None and _TASK in earlier[4]
            if not about_task and earlier[0] is later[0]:
                self.folded += 1
                entries[i] = _folded(earlier, later)
                del entries[i - 1]
                return


def _has_result(details: dict[str, Any] | None) -> bool:
    return details is not None and RESULT in details


def _folded(earlier: tuple[Any, ...], later: tuple[Any, ...]) -> tuple[Any, ...]:
    return (
        *later[:5],
        later[5] + earlier[5] + 1,
        later[6] + earlier[6] + (earlier[2] is _ERROR),
    )
