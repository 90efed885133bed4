"""The one line: ASGI middleware that sees when an agent works, and reports it."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import anyio.to_thread
import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opscore_middleware.agent.outcome import (
    describe_exception,
    describe_startup,
    describe_status,
    is_failure,
)
from opscore_middleware.agent.runtime import EXIT_PATIENCE, AgentRuntime
from opscore_middleware.agent.settings import Settings
from opscore_middleware.agent.tracker import Tracker
from opscore_middleware.agent.work import Kind, Rules
from opscore_middleware.core.states import AgentState
from opscore_middleware.errors import ConfigurationError

__all__ = ["OpsCoreMiddleware"]

# In the scope, so that it reaches mounted apps and nothing else: a second middleware further in
# sees that this request is watched already. A context variable would leak into child tasks.
WATCHED: Final = "opscore_middleware.watched"

# An enum's members cost a look-up each; these are compared in every request.
WORK: Final = Kind.WORK
READ: Final = Kind.READ


class OpsCoreMiddleware:
    """Reports the lifecycle of the agent that it wraps to Ops-Core.

    `app.add_middleware(OpsCoreMiddleware)` on FastAPI and Starlette, or
    `app = OpsCoreMiddleware(app)` around any ASGI app. What passes through is not changed, and
    nothing waits for the network but the start and the end of the process, for half a second at
    most.

    Args:
        app: the ASGI app to watch.
        api_url: Ops-Core's address, with or without `/v1`; else `OPSCORE_API_URL`. Without one
            the agent is tracked in this process only.
        api_key: the bearer token for Ops-Core; else `OPSCORE_API_KEY`.
        agent_id: the id that Ops-Core knows this agent by; else `OPSCORE_AGENT_ID`. Without one
            the agent registers under its name.
        agent_name: else `OPSCORE_AGENT_NAME`, the FastAPI title, or the main module's name.
        agent_version: else `OPSCORE_AGENT_VERSION`.
        capabilities: what kinds of task the agent takes; else `OPSCORE_AGENT_CAPABILITIES`,
            separated by commas.
        contact_endpoint: where the agent takes tasks; else `OPSCORE_CONTACT_ENDPOINT`.
        methods: HTTP methods that are work from their start; POST, PUT, PATCH and DELETE.
        include: path patterns (`*` matches any text) that are work by any method.
        exclude: path patterns that are never work.
        read_grace: seconds after which a GET counts as work; else `OPSCORE_READ_GRACE`, 0.25.
        error_hold: seconds for which `error` stays when nothing follows; else
            `OPSCORE_ERROR_HOLD`, 5.
        heartbeat_interval: seconds between signs of life; else `OPSCORE_HEARTBEAT_INTERVAL`, 10.
        agentkit_url: AgentKit's address, to register there instead; else `AGENTKIT_API_URL`.
        transport: makes the `httpx.BaseTransport` to Ops-Core, for proxies and tests.

    Raises:
        ConfigurationError: a setting is malformed, or `app` is not an ASGI app.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_url: str | None = None,
        api_key: str | None = None,
        agent_id: str | None = None,
        agent_name: str | None = None,
        agent_version: str | None = None,
        capabilities: Iterable[str] | None = None,
        contact_endpoint: str | None = None,
        methods: Iterable[str] | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        read_grace: float | None = None,
        error_hold: float | None = None,
        heartbeat_interval: float | None = None,
        agentkit_url: str | None = None,
        transport: Callable[[], httpx.BaseTransport] | None = None,
    ) -> None:
        _check_asgi(app)
        self.app = app
        settings = Settings.resolve(
            api_url=api_url,
            api_key=api_key,
            agent_id=agent_id,
            agent_name=agent_name,
            agent_version=agent_version,
            capabilities=capabilities,
            contact_endpoint=contact_endpoint,
            methods=methods,
            include=include,
            exclude=exclude,
            read_grace=read_grace,
            error_hold=error_hold,
            heartbeat_interval=heartbeat_interval,
            agentkit_url=agentkit_url,
        )
        rules = Rules(settings)
        self._by_method = rules.by_method
        self._by_path = rules.kind if rules.by_path else None
        self._runtime = AgentRuntime(settings, transport)
        self._tracker = self._runtime.tracker
        self._introduced = False
        weakref.finalize(self, self._runtime.reporter.stop).atexit = False

    @property
    def state(self) -> AgentState:
        """The agent's state as this process sees it, whether or not it has been told yet."""
        return self._tracker.state

    @property
    def agent_id(self) -> str | None:
        """The id that Ops-Core knows this agent by; None until that is known."""
        return self._runtime.agent_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as the wrapped app does."""
        kind = scope["type"]
        if WATCHED in scope or (kind != "http" and kind != "lifespan"):
            await self.app(scope, receive, send)
            return
        scope[WATCHED] = True
        if not self._introduced:
            self._introduce(scope)
        if kind == "lifespan":
            await _Lifespan(self.app, self._runtime).run(scope, receive, send)
            return
        by_path = self._by_path
        counts = self._by_method.get(scope["method"]) if by_path is None else by_path(scope)
        if counts is not WORK:
            await (self._read if counts is READ else self.app)(scope, receive, send)
            return

        # Inline, and the wrapper a plain function that hands on the server's own awaitable: a
        # coroutine of ours around the request and each message would double what we cost.
        status = 0

        def watched_send(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        tracker = self._tracker
        unit = tracker.begin()
        try:
            await self.app(scope, receive, watched_send)
        except BaseException as exception:
            if is_failure(exception):
                tracker.fail(unit, describe_exception(exception, scope))
            else:
                tracker.end(unit)
            raise
        if status >= 500:
            tracker.fail(unit, describe_status(status, scope))
        else:
            tracker.end(unit)

    def _introduce(self, scope: Scope) -> None:
        self._introduced = True
        self._runtime.introduce(scope.get("app", self.app))
        if scope["type"] == "http" and self._by_method.get(scope["method"]) is READ:
            self._tracker.served_without_lifespan()

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that comes to count if it lasts, unless it streams events."""
        tracker = self._tracker
        read = tracker.begin_read()
        status = 0

        def watched_send(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if _is_event_stream(message):
                    tracker.end_read(read)
            return send(message)

        try:
            await self.app(scope, receive, watched_send)
        except BaseException as exception:
            if is_failure(exception):
                tracker.fail_read(read, describe_exception(exception, scope))
            else:
                tracker.end_read(read)
            raise
        if status >= 500:
            tracker.fail_read(read, describe_status(status, scope))
        else:
            tracker.end_read(read)


class _Lifespan:
    """One lifespan of the app: forwarded as it comes, told as it goes."""

    def __init__(self, app: ASGIApp, runtime: AgentRuntime) -> None:
        self._app = app
        self._runtime = runtime
        self._tracker: Tracker = runtime.tracker
        self._stopping = False
        self._over = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._tracker.lifespan_begins()

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                # Before the app hears of it: some exit hard in their own shutdown.
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
        self._left(cut_off=False)

    def _left(self, *, cut_off: bool) -> None:
        """See to what the app has not said itself before it left."""
        if self._over:
            return
        if cut_off or self._stopping:
            # Cancelled by a second Ctrl-C, or gone without a last word: the end all the same, and
            # nothing can be awaited here any more.
            self._tracker.lifespan_ends()
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
                self._tracker.startup_failed(describe_startup(message.get("message", "")))
                await self._flush()  # the server exits as soon as it hears
            case "lifespan.shutdown.complete" | "lifespan.shutdown.failed":
                self._over = True
                self._tracker.lifespan_ends()
                await self._flush()  # on SIGTERM nothing of ours runs after this

    async def _flush(self) -> None:
        patience = EXIT_PATIENCE / 2
        try:
            # A limiter of its own: the app's blocking endpoints may hold every thread of the pool.
            await anyio.to_thread.run_sync(
                self._runtime.flush,
                patience,
                abandon_on_cancel=True,
                limiter=anyio.CapacityLimiter(1),
            )
        except RuntimeError:
            self._runtime.flush(patience)  # no thread can be started; this must not end the app


def _is_event_stream(message: Message) -> bool:
    for name, value in message.get("headers", ()):
        if name.lower() == b"content-type":
            return bool(value.lower().startswith(b"text/event-stream"))
    return False


def _check_asgi(app: Any) -> None:
    """Refuse what is callable but not ASGI, while the mistake is still easy to see."""
    try:
        inspect.signature(app).bind({}, None, None)
    except TypeError:
        raise ConfigurationError(
            f"OpsCoreMiddleware wraps ASGI apps, called as app(scope, receive, send); got "
            f"{type(app).__module__}.{type(app).__qualname__}. Pass the ASGI app itself; a WSGI "
            "or aiohttp app needs an adapter such as a2wsgi first."
        ) from None
    except ValueError:
        pass  # a callable without a signature, from an extension: let it show what it is
