"""The lifespan of an app: forwarded as it comes, told as it goes."""

from __future__ import annotations

import anyio
import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opscore_middleware.agent.origin import CURRENT, Origin, leave
from opscore_middleware.agent.outcome import describe_startup, is_failure
from opscore_middleware.agent.runtime import EXIT_PATIENCE, AgentRuntime

__all__ = ["WatchedLifespan"]


class WatchedLifespan:
    """Stands between the server and the app for one lifespan.

    It is flushed twice at the end, each for half of `EXIT_PATIENCE` at most: before the app hears
    of the shutdown, since some exit hard within it, and before the server hears that it is
    complete, since on SIGTERM nothing of ours runs after that. A start that fails is flushed once,
    for all of it.
    """

    def __init__(self, app: ASGIApp, runtime: AgentRuntime) -> None:
        self._app = app
        self._runtime = runtime
        self._tracker = runtime.tracker
        self._stopping = False
        self._over = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        self._runtime.lifespan_begins()
        self._instance = self._tracker.instance
        token = CURRENT.set(Origin(self._runtime))

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._stopping = True
                self._tracker.shutdown()
                await self._flush()
            return message

        async def watched_send(message: Message) -> None:
            await self._saw(message)
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        except BaseException as exception:
            self._left(cut_off=not is_failure(exception))
            raise
        finally:
            leave(token)
        self._left(cut_off=False)

    def _left(self, *, cut_off: bool) -> None:
        """See to what the app has not said itself before it left."""
        if self._over or self._tracker.instance is not self._instance:
            return  # where it unwinds in a forked child, it is the parent's
        if cut_off or self._stopping:
            # Cancelled by a second Ctrl-C, or gone without a last word: the end all the same, and
            # nothing can be awaited here any more.
            self._runtime.lifespan_ends()
            self._runtime.flush(EXIT_PATIENCE / 2)
        else:
            # It does not support lifespans, or does not stay for the end; the server serves on.
            self._tracker.lifespan_unsupported()

    async def _saw(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._tracker.ready()
            case "lifespan.startup.failed":
                self._over = True
                details = describe_startup(str(message.get("message") or ""))
                self._runtime.startup_failed(self._runtime.hooks.redacted(details))
                # The server exits as soon as it hears, some without a word to the interpreter.
                await self._flush(EXIT_PATIENCE)
            case "lifespan.shutdown.complete" | "lifespan.shutdown.failed":
                self._over = True
                self._runtime.lifespan_ends()
                await self._flush()

    async def _flush(self, patience: float = EXIT_PATIENCE / 2) -> None:
        try:
            # A limiter of its own: the app's blocking endpoints may hold every thread of the pool.
            # A bound in the loop as well: a child that was forked from it and has closed its copy
            # leaves one that no thread can wake.
            with anyio.move_on_after(1.25 * patience):
                await anyio.to_thread.run_sync(
                    self._runtime.flush,
                    patience,
                    abandon_on_cancel=True,
                    limiter=anyio.CapacityLimiter(1),
                )
        except Exception:
            # No thread can be started, or no file opened; this must not end the app.
            self._runtime.flush(patience)
