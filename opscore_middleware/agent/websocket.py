"""Websockets: an open connection is no work, what is done about a message is."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opscore_middleware.agent.origin import CURRENT, Origin
from opscore_middleware.agent.outbox import Instance
from opscore_middleware.agent.outcome import describe_exception, is_failure, leaves_with_client
from opscore_middleware.agent.runtime import AgentRuntime

__all__ = ["WatchedWebSocket"]


class WatchedWebSocket(Origin):
    """Stands between the server and the app for one connection.

    A message is work from the moment when the app gets it until it asks for the next; with
    `by_connection` the whole connection is, from the moment when the app has accepted it.
    """

    unit: Instance | None = None
    gone = False

    def __init__(self, runtime: AgentRuntime, *, by_connection: bool) -> None:
        super().__init__(runtime)
        self._tracker = runtime.tracker
        self._by_connection = by_connection

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        CURRENT.set(self)

        async def watched_receive() -> Message:
            if not self._by_connection:
                self._end()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.gone = True
                self._end()
            elif message["type"] == "websocket.receive" and self.unit is None:
                self.unit = self._tracker.begin()
            return message

        async def watched_send(message: Message) -> None:
            if message["type"] == "websocket.accept" and self._by_connection:
                self.unit = self._tracker.begin()
            await send(message)

        try:
            await app(scope, watched_receive, watched_send)
        except BaseException as exception:
            if is_failure(exception) and not self.gone and not leaves_with_client(exception):
                self._fail(exception, scope)
            self._end()
            raise
        self._end()

    def _end(self) -> None:
        unit, self.unit = self.unit, None
        if unit is not None:
            self._tracker.end(unit)

    def _fail(self, exception: BaseException, scope: Scope) -> None:
        unit, self.unit = self.unit, None
        if not self.failed:
            details = self.runtime.hooks.redacted(describe_exception(exception, scope))
            # A connection that fails between two messages has failed, too.
            self._tracker.fail(self._tracker.begin() if unit is None else unit, details)
        elif unit is not None:
            self._tracker.end(unit)
