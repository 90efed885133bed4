"""Events on their way to those who watch: encoded once, joined once, shared by all of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from opscore_middleware.core.store import Store
from opscore_middleware.core.watch import EventRecord, Wanted, encode
from opscore_middleware.protocol import sse

__all__ = ["LIMIT", "MAX_SIZE", "Batch", "Pages"]

LIMIT: Final = 500
"""How many events are read at once; to encode them holds up the loop for two milliseconds."""
MAX_SIZE: Final = 256 * 1024
"""With how many characters of details a reading ends."""
_KEPT: Final = 16

_ANY: Final = Wanted()


class Batch:
    """One or more events in the order of their ids, ready to be sent."""

    def __init__(self, events: Sequence[EventRecord]) -> None:
        self.first = events[0].event_id
        self.last = events[-1].event_id
        self.agents = {event.agent_id for event in events}
        self._events = events
        self._blocks = [
            sse.block(sse.TRANSITION, event_id=event.event_id, data=encode(event))
            for event in events
        ]
        self._joined: dict[Wanted, bytes] = {}

    @property
    def is_full(self) -> bool:
        """Whether there may have been more to read."""
        size = sum(len(event.details or "") for event in self._events)
        return len(self._events) >= LIMIT or size >= MAX_SIZE

    def chunk(self, wanted: Wanted) -> bytes:
        """Return the events that are wanted, as they are sent; empty where there are none."""
        chunk = self._joined.get(wanted)
        if chunk is None:
            chunk = self._joined[wanted] = self._join(wanted, 0)
        return chunk

    def rest(self, wanted: Wanted, *, after: int) -> bytes:
        """Return those of them whose ids are above `after`."""
        return self._join(wanted, after)

    def _join(self, wanted: Wanted, after: int) -> bytes:
        if wanted == _ANY and after < self.first:
            return b"".join(self._blocks)
        return b"".join(
            block
            for event, block in zip(self._events, self._blocks, strict=True)
            if event.event_id > after and wanted.takes(event)
        )


class Pages:
    """Reads what lies behind, once for all readers who stand at the same place.

    After a restart of the server, they do.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: OrderedDict[tuple[int, str | None], asyncio.Task[Batch | None]] = OrderedDict()

    async def after(self, position: int, agent_id: str | None) -> Batch | None:
        """Return the events that follow on `position`, of all agents or one; None for none."""
        key = (position, agent_id)
        while True:
            page = self._read.get(key)
            is_own = page is None
            if page is None:
                page = self._read[key] = asyncio.create_task(self._load(position, agent_id))
                if len(self._read) > _KEPT:
                    self._read.popitem(last=False)
            batch = None
            try:
                # Shielded: whoever leaves leaves the others their page.
                batch = await asyncio.shield(page)
            finally:
                # Failures and empty pages are not kept: there may be events the next time.
                if batch is None and page.done() and self._read.get(key) is page:
                    del self._read[key]
            # That there was nothing when another one looked says nothing of now.
            if batch is not None or is_own:
                return batch

    def clear(self) -> None:
        """Let go of all pages."""
        self._read.clear()

    async def _load(self, position: int, agent_id: str | None) -> Batch | None:
        events = await self._store.events(
            after=position, limit=LIMIT, max_size=MAX_SIZE, agent_id=agent_id
        )
        return Batch(events) if events else None
