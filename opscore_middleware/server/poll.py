"""The long poll: a question for an agent's state that is left open until there is news."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import Receive

from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.watch import StateQuery, Wanted, WatchedState
from opscore_middleware.server.admission import Admission
from opscore_middleware.server.stream import leaving
from opscore_middleware.server.watch import Hub
from opscore_middleware.server.watcher import Watcher

__all__ = ["next_state"]


async def next_state(
    opscore: OpsCore,
    hub: Hub,
    agent_id: str,
    query: StateQuery,
    receive: Receive,
    *,
    admission: Admission,
) -> WatchedState:
    """Return an agent's state once it has an event after the given one, or has waited enough.

    Answers early when the server stops. Raises as `OpsCore.agent_state` does, and once the key
    does not open it any more, as `Admission.require` does.
    """
    await opscore.agent_state(agent_id)  # nobody is waited for who is not there
    with hub.watching(Wanted(agent_id=agent_id), may_stay=lambda: admission.holds) as watcher:
        last = await hub.last_event_id()
        after = last if query.after is None else query.after
        # First join, then look: what comes in between is seen by one of both.
        hub.join(watcher, max(last, hub.position))
        # An id that nobody gave comes from another database; whoever has it needs a new one.
        if after <= last and not await opscore.has_events(agent_id, after=after):
            await _wait(hub, watcher, query.wait or 0.0, receive)
        if watcher.is_barred:
            await admission.require()
    return await opscore.watched_state(agent_id)


async def _wait(hub: Hub, watcher: Watcher, seconds: float, receive: Receive) -> None:
    listening = asyncio.create_task(leaving(receive, watcher))
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (watcher.has_chunks or hub.is_over(watcher)):
                    await watcher.sleep()
    finally:
        listening.cancel()
