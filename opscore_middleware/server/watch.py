"""The hub: reads each new event once and hands it to all who watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from opscore_middleware.core.jitter import between
from opscore_middleware.core.store import Store, WakingStore
from opscore_middleware.core.watch import EventId, Wanted
from opscore_middleware.server.batch import LIMIT, MAX_SIZE, Batch, Pages
from opscore_middleware.server.loops import Loop
from opscore_middleware.server.watcher import Watcher, welcome

__all__ = ["Hub"]

# A store that wakes us is asked now and then all the same: another replica may have written. The
# time varies, so that replicas do not ask as one.
_POLL: Final = (1.0, 5.0)
_RETRY: Final = 1.0
# Between two readings so much time passes at least for each watcher, in seconds. More events come
# together then, and waking everybody never takes more than about a third of the processor.
_PACE: Final = 0.00005
_SHORTEST_PACE: Final = 0.01
_LOOK: Final = 1.0


class Hub:
    """Hands events to watchers. It reads nothing as long as nobody watches.

    Everything runs in one event loop. `position` is the id up to which all events have been handed
    out; it rises only within one call that does not wait, so a watcher that joins at it misses
    nothing.

    Args:
        store: open for as long as the hub is used.
        backlog: how many bytes may wait for one watcher.
    """

    def __init__(self, store: Store, *, backlog: int) -> None:
        self.position: EventId = 0
        self.is_closing = False
        self.pages = Pages(store)
        self._store = store
        self._backlog = backlog
        self._wanted = asyncio.Event()
        self._count = 0
        self._everybody: set[Watcher] = set()  # also those who are still catching up
        # By agent, None for those who want any, so that an event is held only against the wishes
        # that it may meet; then by wish, since equal ones get the same bytes.
        self._groups: dict[str | None, dict[Wanted, set[Watcher]]] = {}
        self._read_at = 0.0
        self._heard = 0

    @property
    def count(self) -> int:
        """How many are watching."""
        return len(self._everybody)

    def loop(self) -> Loop:
        """Return what keeps the hub going."""
        return Loop(self._step, retry=_RETRY)

    def close(self) -> None:
        """Let everybody who watches, or will, come to an end. Idempotent."""
        self.is_closing = True
        for watcher in self._everybody:
            watcher.wake()

    def admissions(self) -> Loop:
        """Return what ends, within a second, the watching of those who may watch no more."""

        async def step() -> float:
            for watcher in list(self._everybody):
                if not watcher.may_stay():
                    watcher.bar()
            return _LOOK

        return Loop(step, retry=_LOOK)

    @property
    def peers(self) -> set[tuple[str, int] | None]:
        """Where those who are watching are."""
        return {watcher.peer for watcher in self._everybody}

    @contextmanager
    def watching(
        self,
        wanted: Wanted,
        *,
        peer: tuple[str, int] | None = None,
        may_stay: Callable[[], bool] = welcome,
    ) -> Iterator[Watcher]:
        """Make a watcher and see that it is let go of; events come to it once it has joined."""
        watcher = Watcher(wanted, limit=self._backlog, peer=peer, may_stay=may_stay)
        self._everybody.add(watcher)
        try:
            yield watcher
        finally:
            self._everybody.discard(watcher)
            self._part(watcher)

    def is_over(self, watcher: Watcher) -> bool:
        """Tell whether one who watches has left, may watch no more, or is asked to leave."""
        return watcher.is_gone or watcher.is_barred or self.is_closing

    async def last_event_id(self) -> EventId:
        """Return the id of the last event there is, and go on from there if nobody has joined."""
        last = await self._store.last_event_id()
        if not self._count:
            self.position = max(self.position, last)
        return last

    async def first_after_gap(self, position: EventId, *, is_sure: bool = False) -> EventId | None:
        """Return the first event there is if those that follow on `position` are gone.

        `is_sure` says that they are; else they are when there are none as old as that any more.
        """
        first = await self._store.first_event_id()
        return first if is_sure or 0 < position < first - 1 else None

    def join(self, watcher: Watcher, position: EventId) -> None:
        """Hand a watcher, from now on, all events above `position`, which the hub has reached."""
        watcher.joined = watcher.taken = position
        groups = self._groups.setdefault(watcher.wanted.agent_id, {})
        groups.setdefault(watcher.wanted, set()).add(watcher)
        self._count += 1
        self._wanted.set()

    def _part(self, watcher: Watcher) -> None:
        groups = self._groups.get(watcher.wanted.agent_id, {})
        group = groups.get(watcher.wanted)
        if group is None or watcher not in group:
            return
        group.remove(watcher)
        if not group:
            del groups[watcher.wanted]
        if not groups:
            del self._groups[watcher.wanted.agent_id]
        self._count -= 1
        if not self._count:
            self._wanted.clear()
            self.pages.clear()

    async def _step(self) -> float:
        await self._wanted.wait()
        await self._sleep(between(*_POLL))
        now = asyncio.get_running_loop().time()
        pace = max(_SHORTEST_PACE, _PACE * self._count)
        if now - self._read_at < pace:
            await asyncio.sleep(self._read_at + pace - now)
        await self._read()
        self._read_at = asyncio.get_running_loop().time()
        return 0.0

    async def _sleep(self, seconds: float) -> None:
        if isinstance(self._store, WakingStore):
            self._heard = await self._store.wait_for_events(seconds, after=self._heard)
        else:
            await asyncio.sleep(seconds)

    async def _read(self) -> None:
        while self._count:
            position = self.position
            events = await self._store.events(after=position, limit=LIMIT, max_size=MAX_SIZE)
            # The last may have parted meanwhile, and another one have joined further on.
            if not events or self.position != position:
                return
            batch = Batch(events)
            self.position = batch.last
            self._hand_out(batch)
            if not batch.is_full:
                return

    def _hand_out(self, batch: Batch) -> None:
        for agent_id in (None, *batch.agents):
            for wanted, watchers in self._groups.get(agent_id, {}).items():
                chunk = batch.chunk(wanted)
                if chunk:
                    _put(batch, chunk, watchers)


def _put(batch: Batch, chunk: bytes, watchers: Iterable[Watcher]) -> None:
    for watcher in watchers:
        if watcher.joined < batch.first:
            watcher.put(batch.last, chunk)
        elif rest := batch.rest(watcher.wanted, after=watcher.joined):
            watcher.put(batch.last, rest)
