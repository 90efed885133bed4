"""Watching without I/O: where a watch stands, over any number of connections."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Final

import httpx

from opscore_middleware.core.jitter import between
from opscore_middleware.core.watch import AgentEvent, StateQuery, WatchedState, WatchQuery
from opscore_middleware.errors import EventsGone
from opscore_middleware.protocol import calls, sse
from opscore_middleware.protocol.call import Call

__all__ = ["PASSING", "Following", "Looking"]

SILENCE: Final = 60.0
"""How long a stream may be silent before it counts as broken, in seconds: two of the longest
heartbeats that a server may be set to."""
LOOK: Final = 30.0
"""How long a question for a state is left open at once, in seconds; proxies end longer ones."""

PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of what passes with time; anything else of the kind stays wrong."""

_LONGEST_DELAY: Final = 30.0


class Following:
    """Reads streams of events one after the other: every event once, in order.

    Args:
        query: which events; from now on where it has no `after`.
    """

    def __init__(self, query: WatchQuery) -> None:
        self.has_begun = False
        self._query = query
        self._after = query.after
        self._failures = 0
        self._retry = 1.0
        self._reader = sse.Reader()

    def call(self) -> Call[bytes]:
        """Return the call that goes on where the last connection was lost."""
        self._reader = sse.Reader()
        return calls.watch(self._query.model_copy(update={"after": self._after}))

    def timeout(self, seconds: float) -> httpx.Timeout:
        """Return how long to wait for a connection, and for each word on it."""
        return httpx.Timeout(seconds, read=max(seconds, SILENCE))

    def refuse(self, call: Call[bytes], status: int, body: bytes) -> None:
        """Raise `RemoteError` for an answer that is no stream, unless it is worth another try."""
        if not (self.has_begun and status in PASSING):
            call.result(status, body)

    def feed(self, piece: bytes) -> Iterator[AgentEvent]:
        """Return the events that a piece of a stream completes.

        Raises `EventsGone` when some were missed for good.
        """
        self.has_begun = True
        for message in self._reader.feed(piece):
            if message.event == sse.TRANSITION:
                event = AgentEvent.model_validate_json(message.data)
                if self._after is None or event.event_id > self._after:
                    self._after = event.event_id
                    yield event
            elif message.event == sse.RESET:
                raise _gone(message.data)
        self._failures = 0
        if self._reader.retry is not None:
            self._retry = self._reader.retry
        if self._reader.event_id:
            self._after = max(self._after or 0, int(self._reader.event_id))

    def delay(self) -> float:
        """Return how long to wait before the next connection, in seconds, with full jitter."""
        bound = min(_LONGEST_DELAY, self._retry * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return between(0.0, bound)


class Looking:
    """Waits for an agent to be in a state, question by question.

    Args:
        agent_id: the agent.
        state: the state, in any case.
        timeout: how long to wait for it, in seconds.
    """

    def __init__(self, agent_id: str, state: str, timeout: float) -> None:
        self._agent_id = agent_id
        self._state = state
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._query = StateQuery(wait=0)

    def call(self) -> Call[WatchedState]:
        """Return the next question."""
        return calls.next_agent_state(self._agent_id, self._query)

    def is_found(self, seen: WatchedState) -> bool:
        """Tell whether the agent is in the state; raises `TimeoutError` when time is over."""
        if seen.state.lower() == self._state.lower():
            return True
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                f"Agent {self._agent_id!r} was not {self._state!r} within {self._timeout:g} s; "
                f"it is {seen.state!r}."
            )
        self._query = StateQuery(wait=min(left, LOOK), after=seen.event_id)
        return False


def _gone(data: str) -> EventsGone:
    told = json.loads(data)
    first, after = int(told["firstEventId"]), int(told["after"])
    return EventsGone(
        f"Ops-Core cannot go on after event {after}: the first that it has now is {first}. Read "
        f"the agents' states anew, and watch again after {first - 1}.",
        first_event_id=first,
        after=after,
    )
