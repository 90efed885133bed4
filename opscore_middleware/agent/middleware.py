"""The one line: ASGI middleware that sees when an agent works, and reports it."""

from __future__ import annotations

import inspect
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from opscore_middleware.agent.envelopes import Detector, Verdict
from opscore_middleware.agent.hooks import Hooks, StateChange, guarded
from opscore_middleware.agent.integrations.choice import Choice
from opscore_middleware.agent.integrations.protocol import Integration
from opscore_middleware.agent.lifespan import WatchedLifespan
from opscore_middleware.agent.origin import CURRENT
from opscore_middleware.agent.request import WatchedRequest
from opscore_middleware.agent.runtime import AgentRuntime
from opscore_middleware.agent.settings import Settings, WebSockets
from opscore_middleware.agent.tracing import watch_spans
from opscore_middleware.agent.websocket import WatchedWebSocket
from opscore_middleware.agent.work import Kind, Rules
from opscore_middleware.core.states import AgentState
from opscore_middleware.errors import ConfigurationError

__all__ = ["OpsCoreMiddleware"]

# In the scope, so that it reaches mounted apps and nothing else: a second middleware further in
# sees that this request is watched already. A context variable would leak into child tasks.
WATCHED: Final = "opscore_middleware.watched"

# Ops-Core's own paths, where it is mounted in the agent's process: not the agent's work.
OPSCORE: Final = "/v1/opscore/"

# What costs a look-up each, and is asked for in every request.
WORK: Final = Kind.WORK
READ: Final = Kind.READ
UNCOUNTED: Final = WatchedRequest()
set_current: Final = CURRENT.set
reset_current: Final = CURRENT.reset


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
        websockets: what of a websocket is work: each `message` from when the app gets it until it
            asks for the next, the whole `connection`, or `never` anything.
        outcome: looks at each parsed JSON value of a response, after Ops-Core's own detectors;
            returns how the work failed (a text, a mapping or a `Failure`), or None.
        redact: gets the details of each failure and returns what of them may be told.
        on_transition: called with each `StateChange`, in a thread of ours.
        on_cancel: called with the id of a task that was cancelled at Ops-Core, in a thread of ours,
            instead of cancelling the tracked work on it.
        report_results: report what a task came to, where the app answers it with JSON: True, False,
            or a function that gets the result and returns what of it to report, None for nothing,
            in a thread of ours; else `OPSCORE_REPORT_RESULTS`, true.
        integrations: those that are known, which look where a framework really works, are on:
            names here are switched on, names behind a `-` off (`-*` all of them), and objects are
            integrations of your own; else `OPSCORE_INTEGRATIONS`, separated by commas.
        spans: count OpenTelemetry's GenAI spans of agents (`invoke_agent`, `invoke_workflow`) as
            tracked work.
        handle_signals: report `draining` as soon as SIGTERM or SIGINT arrives; the handlers that
            were there still run.
        transport: makes the `httpx.BaseTransport` to Ops-Core, for proxies and tests.
        clock: the time that is told with each transition, in seconds since the epoch.

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
        websockets: WebSockets = "message",
        outcome: Sequence[Callable[[object], Verdict]] = (),
        redact: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None,
        on_transition: Callable[[StateChange], None] | None = None,
        on_cancel: Callable[[str], None] | None = None,
        report_results: bool | Callable[[Any], Any] | None = None,
        integrations: Iterable[str | Integration] | None = None,
        spans: bool = False,
        handle_signals: bool = True,
        transport: Callable[[], httpx.BaseTransport] | None = None,
        clock: Callable[[], float] = time.time,
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
            websockets=websockets,
            handle_signals=handle_signals,
            report_results=True if callable(report_results) else report_results,
            integrations=integrations,
            spans=spans,
        )
        hooks = Hooks(
            outcome=tuple(map(Detector, outcome)),
            redact=redact,
            on_transition=on_transition,
            on_cancel=on_cancel,
            result=report_results if callable(report_results) else None,
            clock=guarded(clock),
        )
        self._integrations = Choice(settings.integrations)
        self._rules = Rules(settings)
        self._by_method = self._rules.by_method
        # What the first request is asked first; where paths do not matter, no other one is.
        self._by_path: Callable[[Scope], Kind | None] | None = self._introduced_by
        self._websockets = settings.websockets
        self._runtime = AgentRuntime(settings, hooks, transport)
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
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        app = self.app
        if OPSCORE in scope["path"] or (WATCHED in scope and not scope[WATCHED].over):
            await app(scope, receive, send)
            return
        by_path = self._by_path
        counts = self._by_method.get(scope["method"]) if by_path is None else by_path(scope)
        if counts is None:
            scope[WATCHED] = UNCOUNTED
            await app(scope, receive, send)
            return

        # Who tries again with the same scope once it is over begins another.
        scope[WATCHED] = request = WatchedRequest()
        if counts is WORK:
            request.begins(self._runtime, scope.get("headers"))
        else:
            request.may_come_to_count(self._runtime)
        token = set_current(request)
        watched_receive, watched_send = request.between(receive, send)
        try:
            await app(scope, watched_receive, watched_send)
        except BaseException as exception:
            await request.raised(exception, scope, receive)
            raise
        finally:
            try:
                reset_current(token)  # who called us in this task may be another agent's request
            except ValueError:
                pass  # abandoned, and closed by the collector wherever it ran
        if not request.returned(scope):
            await request.stopped_short(scope, receive)

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if WATCHED in scope:
            await self.app(scope, receive, send)
            return
        scope[WATCHED] = kind
        if not self._introduced:
            self._introduce(scope)
        if kind == "lifespan":
            await WatchedLifespan(self.app, self._runtime).run(scope, receive, send)
        elif kind == "websocket" and self._websockets != "never":
            watched = WatchedWebSocket(
                self._runtime, by_connection=self._websockets == "connection"
            )
            await watched.run(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _introduced_by(self, scope: Scope) -> Kind | None:
        if not self._introduced:
            self._introduce(scope)
        return self._rules.kind(scope)

    def _introduce(self, scope: Scope) -> None:
        self._introduced = True
        self._by_path = self._rules.kind if self._rules.by_path else None
        self._runtime.introduce(scope.get("app", self.app))
        self._runtime.integrations = self._integrations.attach()
        if self._runtime.settings.spans:
            watch_spans()
        if scope["type"] == "http" and self._by_method.get(scope["method"]) is READ:
            self._tracker.served_without_lifespan()


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
    except Exception:
        return  # no signature, or annotations that cannot be read now: let it show what it is
