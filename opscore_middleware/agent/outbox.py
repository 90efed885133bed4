"""What is still to be told: bounded, with the newest state always in it."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from opscore_middleware.core.states import AgentState

__all__ = ["Entry", "Instance", "Outbox"]


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

    When it is full the last entry is folded into the new one, so the newest state is never lost
    and the memory is flat; the earliest transitions, which tell how an outage began, are kept.
    `put` calls must not overlap (the tracker's lock sees to it); `take` may run at any time: what
    it has taken can no longer change.

    Args:
        limit: how many entries to keep at most.
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit: Final = limit
        self._entries: deque[tuple[Any, ...]] = deque()
        self.dropped = 0
        """Entries that had to go because they belong to another instance than the newest."""

    def __len__(self) -> int:
        return len(self._entries)

    def put(
        self,
        instance: Instance,
        sequence: int,
        state: AgentState,
        at: float,
        details: dict[str, Any] | None,
    ) -> None:
        """Add a transition. Plain tuples inside: this runs twice in every request."""
        entries = self._entries
        if len(entries) < self._limit:
            entries.append((instance, sequence, state, at, details, 0, 0))
        else:
            entries.append(self._make_room(instance, sequence, state, at, details))

    def take(self) -> list[Entry]:
        """Remove and return everything, oldest first."""
        entries, taken = self._entries, []
        while entries:
            taken.append(Entry._make(entries.popleft()))
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def _make_room(
        self,
        instance: Instance,
        sequence: int,
        state: AgentState,
        at: float,
        details: dict[str, Any] | None,
    ) -> tuple[Any, ...]:
        coalesced = errors = 0
        try:
            last = self._entries.pop()
            if last[0] is instance:
                coalesced = last[5] + 1
                errors = last[6] + (last[2] is AgentState.ERROR)
            else:
                self._entries.append(last)
                self._entries.popleft()
                self.dropped += 1
        except IndexError:
            pass  # the reporter took everything in between
        return (instance, sequence, state, at, details, coalesced, errors)
