"""Websockets: an open connection is no work, what is done about a message is."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opscore_middleware.agent.ended import TaskEnd
from opscore_middleware.agent.origin import CURRENT, Origin, leave
from opscore_middleware.agent.outbox import Instance
from opscore_middleware.agent.outcome import describe_exception, describe_status, is_failure
from opscore_middleware.agent.runtime import AgentRuntime

__all__ = ["WatchedWebSocket"]


class WatchedWebSocket(Origin):
    """Stands between the server and the app for one connection.

    A message is work from the moment when the app gets it until it asks for the next; with
    `by_connection` the whole connection is, from the moment when the app has accepted it. What
    fails within it is told at its end. One that the app denies by an HTTP response fails as a
    request would, by its status.
    """

    unit: Instance | None = None
    failure: dict[str, Any] | None = None
    """The first failure of a tracked unit within the message or connection."""
    gone = False
    """The client has left."""

    def __init__(self, runtime: AgentRuntime, *, by_connection: bool) -> None:
        super().__init__(runtime)
        self._tracker = runtime.tracker
        self._by_connection = by_connection

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        token = CURRENT.set(self)

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
            self._answers(message, scope)
            try:
                await send(message)
            except OSError:
                self.gone = True  # what ASGI asks servers to raise then
                raise

        try:
            await app(scope, watched_receive, watched_send)
        except BaseException as exception:
            if is_failure(exception) and not self.gone:
                self._fail(describe_exception(exception, scope))
            self._end()
            raise
        finally:
            leave(token)
        self._end()

    def close_unit(
        self,
        unit: Instance,
        failure: dict[str, Any] | None,
        *,
        cut_off: bool,
        end: TaskEnd | None = None,
    ) -> None:
        """End a tracked unit; a failure within a message is the message's, and told with it."""
        with self._tracker.lock:
            if failure is None or self.unit is None:
                super().close_unit(unit, failure, cut_off=cut_off, end=end)
            else:
                self.failure = self.failure or failure
                self._tracker.end(unit)

    def _end(self) -> None:
        with self._tracker.lock:
            unit, self.unit = self.unit, None
            failure, self.failure = self.failure, None
            if unit is None:
                return
            if failure is None:
                self._tracker.end(unit)
            else:
                self._tracker.fail(unit, failure)

    def _answers(self, message: Message, scope: Scope) -> None:
        """Look at how the app answers somebody who wants to connect."""
        if message["type"] == "websocket.accept":
            if self._by_connection and self.unit is None:
                self.unit = self._tracker.begin()
        elif message["type"] == "websocket.http.response.start":
            status = message.get("status")
            if isinstance(status, int) and status >= 500:
                self._fail(describe_status(status, scope))

    def _fail(self, details: dict[str, Any]) -> None:
        told = self.runtime.hooks.redacted(details)
        with self._tracker.lock:
            self.failure = self.failure or told
            if self.unit is None:
                self.unit = self._tracker.begin()  # it has failed between two messages
