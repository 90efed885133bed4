"""Events over HTTP: one response that goes on for as long as its reader stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from opscore_middleware.core.watch import EventId, Wanted
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.protocol import sse
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.watch import Hub
from opscore_middleware.server.watcher import Watcher, welcome

__all__ = ["EventStream", "leaving"]

log = get_logger(__name__)

RETRY: Final = 1000
"""What a browser is asked to wait before it connects again, in milliseconds."""

_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)


class EventStream(Response):
    """Sends the events that are wanted, from the one after `after` on; None is from now on.

    Plain ASGI: one message for all that waits, and nothing between it and the web server.

    Args:
        hub: hands the events out.
        wanted: which.
        after: the id that the reader has seen already.
        heartbeat: how long it may be silent, in seconds.
        may_stay: tells whether the reader's key still opens it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Hub,
        wanted: Wanted,
        *,
        after: EventId | None,
        heartbeat: float,
        may_stay: Callable[[], bool] = welcome,
    ) -> None:
        super().__init__()
        self._hub = hub
        self._wanted = wanted
        self._after = after
        self._heartbeat = heartbeat
        self._may_stay = may_stay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader leaves, is too slow, may read no more, or the server stops."""
        peer = scope.get("client")
        with self._hub.watching(self._wanted, peer=peer, may_stay=self._may_stay) as watcher:
            # Before the head goes out: what is wrong with the database is answered by a 503.
            first, position = await self._start()
            listening = asyncio.create_task(leaving(receive, watcher))
            sender = _Sender(send, watcher, self._heartbeat)
            try:
                with suppress(OSError):  # the reader has left, says the web server
                    await sender.start(first)
                    await sender.end(await self._go_on(watcher, position, sender))
            finally:
                sender.stop()
                listening.cancel()

    async def _start(self) -> tuple[bytes, EventId]:
        """Return what is sent first, and where the events begin."""
        last = await self._hub.last_event_id()
        position = last if self._after is None else self._after
        reset = b""
        # An id that nobody gave comes from another database: nothing is known of what it saw.
        first = await self._hub.first_after_gap(position, is_sure=position > last)
        if first is not None:
            reset, position = _reset(first, position)
        opening = b"retry: %d\n" % RETRY + sse.block(event_id=position)
        return opening + reset, position

    async def _go_on(self, watcher: Watcher, position: EventId, sender: _Sender) -> bytes:
        """Send events until there is a reason to end, and return what is said of it."""
        try:
            position = await self._catch_up(watcher, position, sender)
        except StoreUnavailable as error:
            log.warning("watch_broken_off", detail=error.message)
            return b""  # whoever connects again gets the reason
        if not self._hub.is_over(watcher):
            # Nothing is waited for between the last look at the hub's position and this.
            self._hub.join(watcher, position)
            await self._follow(watcher, sender)
            position = watcher.taken
        last = sse.LAGGING if watcher.is_lagging else sse.BYE
        return sse.block(last, event_id=position, data=to_json({"eventId": position}))

    async def _catch_up(self, watcher: Watcher, position: EventId, sender: _Sender) -> EventId:
        """Send what lies behind, as fast as it is read, and return the position reached."""
        while position < self._hub.position:
            if self._hub.is_over(watcher):
                break
            reached = self._hub.position
            page = await self._hub.pages.after(position, self._wanted.agent_id)
            if page is None or page.first > position + 1:
                first = await self._hub.first_after_gap(position)
                if first is not None:
                    reset, position = _reset(first, position)
                    await sender.send(reset)
                    continue
            chunk, position = (
                (b"", reached) if page is None else (page.chunk(self._wanted), page.last)
            )
            if chunk:
                await sender.send(chunk)
            elif sender.is_due:
                await sender.beat(position)
        return position

    async def _follow(self, watcher: Watcher, sender: _Sender) -> None:
        """Send what the hub hands out."""
        while not (watcher.is_lagging or self._hub.is_over(watcher)):
            if watcher.has_chunks:
                await sender.send(watcher.take())
            elif sender.is_due:
                # Whatever was not for this one lies behind it too.
                watcher.taken = max(watcher.taken, self._hub.position)
                await sender.beat(watcher.taken)
            else:
                await watcher.sleep()


class _Sender:
    """Sends pieces of one response, and knows when it has been silent for too long."""

    def __init__(self, send: Send, watcher: Watcher, heartbeat: float) -> None:
        self.is_due = False
        self._send = send
        self._watcher = watcher
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, first: bytes) -> None:
        headers = list(_HEADERS)  # whoever wraps `send` may add to them
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send(first)
        self._look()

    async def send(self, piece: bytes) -> None:
        self._sent_at = self._loop.time()
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def beat(self, position: EventId) -> None:
        """Say that the connection lives, and where to go on if it is lost now."""
        self.is_due = False
        await self.send(sse.HEARTBEAT + sse.block(event_id=position))
        self._look()

    async def end(self, last: bytes) -> None:
        await self._send({"type": "http.response.body", "body": last})

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        # One timer, set again only when it has run out: to move it with every event costs more.
        left = self._sent_at + self._heartbeat - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.is_due = True
            self._watcher.wake()


def _reset(first: EventId, position: EventId) -> tuple[bytes, EventId]:
    """Return what says that events after `position` are gone, and where they begin now."""
    data = to_json({"firstEventId": first, "after": position})
    return sse.block(sse.RESET, event_id=first - 1, data=data), first - 1


async def leaving(receive: Receive, watcher: Watcher) -> None:
    """Wait until the other side is gone, and tell the watcher."""
    while (await receive())["type"] != "http.disconnect":
        pass
    watcher.leave()
