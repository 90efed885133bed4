"""The loops of dispatch: claim and send, hear, time out, start what is scheduled."""

from __future__ import annotations

import asyncio
import secrets
from time import perf_counter
from typing import Final

from opscore_middleware.core.clock import SECOND, Clock
from opscore_middleware.core.jitter import between
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.routes import routes_of
from opscore_middleware.core.store import WakingStore
from opscore_middleware.server.dispatch.sending import Sender
from opscore_middleware.server.dispatch.sendings import Sendings
from opscore_middleware.server.dispatch.tally import Tally
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.loops import Loop, spread

__all__ = ["Dispatcher"]

log = get_logger(__name__)

_BATCH: Final = 100
"""How many attempts are claimed at once."""
_POLL: Final = (1.0, 5.0)
"""How long nobody looks, in seconds, unless woken. It varies, so that replicas do not look as
one."""
_RETRY: Final = 1.0
_LOOK: Final = 1.0
_EXPIRE: Final = 0.5
# Reports that mean nothing to dispatch, however many, may cost a fifth of the time: after a look
# that found nothing the next one waits four times as long as that took, at most so many seconds.
_REST: Final = 4.0
_LONGEST_REST: Final = 0.05


class Dispatcher:
    """Gives tasks to agents and hears what becomes of them; with others on one database.

    Belongs to one event loop.

    Args:
        engine: decides.
        sender: sends attempts.
        agentkit: whether there is an AgentKit to send them through.
        most: how many attempts may be on their way at once.
        tally: counts them.
        clock: returns now, in microseconds since the Unix epoch.
    """

    def __init__(
        self,
        engine: Engine,
        sender: Sender,
        *,
        agentkit: bool,
        most: int,
        tally: Tally,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._store = engine.store
        self._agentkit = agentkit
        self._tally = tally
        self._clock = clock
        self._holder = secrets.token_hex(8)
        self._claim_now = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._is_closing = False
        self._position = 0
        # Ready tasks wait for an agent: whatever an agent says may mean that it can have one.
        self._is_short_of_agents = False
        self._sendings = Sendings(
            engine, sender, most=most, tally=tally, clock=clock, on_free=self._claim_now.set
        )
        engine.on_ready = self._claim_now.set

    def loops(self) -> dict[str, Loop]:
        """Return what keeps it going."""
        return {
            "claims": Loop(self._claim, retry=_RETRY),
            "words": Loop(self._hear, retry=_RETRY),
            "timeouts": Loop(self._expire, retry=_RETRY),
            "schedules": Loop(self._start_due, retry=_RETRY),
            "connections": Loop(self._look, retry=_RETRY),
        }

    async def close(self) -> None:
        """Claim nothing more, send what is claimed, hang up. Before the loops are ended."""
        self._is_closing = True
        async with self._claiming:
            pass  # what is being claimed right now is sent
        await self._sendings.close()

    async def _claim(self) -> float:
        self._claim_now.clear()
        async with self._claiming:
            limit = 0 if self._is_closing else min(self._sendings.free, _BATCH)
            claims = await self._engine.claim(limit) if limit else ()
            for claim in claims:
                routes = routes_of(claim.endpoint, agentkit=self._agentkit)
                self._sendings.start(claim, routes)
        self._tally.claims += len(claims)
        if not limit:
            await self._claim_now.wait()
        elif len(claims) < limit:
            await self._sleep(await self._until_the_next())
        return 0.0

    async def _until_the_next(self) -> float:
        """Return how long there is nothing to claim, in seconds, unless somebody says so."""
        now = self._clock()
        earliest = await self._store.next_ready_at(after=0)
        self._is_short_of_agents = earliest is not None and earliest <= now
        if self._is_short_of_agents:
            earliest = await self._store.next_ready_at(after=now)
        wait = between(*_POLL)
        return wait if earliest is None else min(wait, max(earliest - now, 0) / SECOND)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._claim_now.wait()
        except TimeoutError:
            pass

    async def _hear(self) -> float:
        began = perf_counter()
        heard = await self._engine.hear(self._holder)
        if self._is_short_of_agents:
            self._claim_now.set()
        if heard.more:
            return 0.0
        if not heard.count:
            took = perf_counter() - began
            await asyncio.sleep(min(_REST * took, _LONGEST_REST))
        wait = between(*_POLL)
        if isinstance(self._store, WakingStore):
            self._position = await self._store.wait_for_events(wait, after=self._position)
        else:
            await asyncio.sleep(wait)
        return 0.0

    async def _expire(self) -> float:
        for claim in await self._engine.expire():
            route = claim.task.route
            routes = (
                routes_of(claim.endpoint, agentkit=self._agentkit) if route is None else (route,)
            )
            self._sendings.start(claim, routes)
        return spread(_EXPIRE)

    async def _start_due(self) -> float:
        due = await self._engine.start_due()
        if due.started:
            log.info("schedules_started", sessions=due.started)
        for workflow_id, error in due.refused:
            log.warning("schedule_refused", workflow_id=workflow_id, detail=error.message)
        return spread(_LOOK)

    async def _look(self) -> float:
        await self._sendings.look()
        return spread(_LOOK)
