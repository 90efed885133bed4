"""The composition root: settings in, a FastAPI app out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from opscore_middleware.agentkit import AsyncAgentKit
from opscore_middleware.core.clock import Clock, system_clock
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.advancing import EngineStore
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.records import Repeated
from opscore_middleware.core.workflows.validation import parse
from opscore_middleware.errors import ConfigurationError, ValidationFailed
from opscore_middleware.notations.cron import next_run
from opscore_middleware.notations.expressions import JmesPath
from opscore_middleware.server.access import Names
from opscore_middleware.server.allowed import AllowedTransport
from opscore_middleware.server.auth import Guard
from opscore_middleware.server.dispatch.dispatcher import Dispatcher
from opscore_middleware.server.dispatch.sending import Sender
from opscore_middleware.server.dispatch.stopped import StoppedAttempts
from opscore_middleware.server.dispatch.tally import Tally
from opscore_middleware.server.docs import add_docs
from opscore_middleware.server.errors import (
    Answer,
    AnswerFailures,
    answer_to,
    as_response,
    problem,
    refuse,
)
from opscore_middleware.server.gate import Gate, route_path
from opscore_middleware.server.idempotency import answer_again
from opscore_middleware.server.ingest import Ingest
from opscore_middleware.server.keys import KeyFile, reloading
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.loops import Loop, Pause, reconciliation, running, watch
from opscore_middleware.server.metrics import Metrics
from opscore_middleware.server.openapi import complete, is_complete, methods_of
from opscore_middleware.server.retention import forgetting, forgetting_runs, letting_go, taking_out
from opscore_middleware.server.routes import (
    agents,
    events,
    fleet,
    health,
    metrics,
    sessions,
    tasks,
    webhook,
    workflows,
)
from opscore_middleware.server.settings import Settings
from opscore_middleware.server.watch import Hub
from opscore_middleware.server.webhook import Webhook
from opscore_middleware.stores import open_store

__all__ = ["create_app"]

log = get_logger(__name__)

_NOUNS: Final = (health, metrics, agents, fleet, sessions, workflows, tasks, events, webhook)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class _App(FastAPI):
    """FastAPI behind the gate, and an OpenAPI document that shows what the gate answers."""

    def __init__(
        self,
        *,
        settings: Settings,
        opscore: OpsCore,
        engine: Engine,
        guard: Guard,
        webhook: Webhook,
        clock: Clock,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.state.opscore = opscore
        self.state.engine = engine
        self.state.clock = clock
        self.state.stopped = StoppedAttempts(engine)
        self.state.dispatched = Tally()
        self.state.webhook = webhook
        self.state.started = time.monotonic()
        self.state.ingest = Ingest(
            opscore,
            stopped=self.state.stopped,
            max_body_bytes=settings.max_body_bytes,
            max_batch_bytes=settings.max_batch_bytes,
            max_pending=settings.max_pending,
        )
        self.state.guard = guard
        self.state.names = Names(opscore)
        self.state.refusals = Counter[str]()
        self.state.metrics = Metrics(
            opscore,
            engine=engine,
            dispatched=self.state.dispatched,
            ingest=self.state.ingest,
            refusals=self.state.refusals,
            watchers=lambda: self.state.hub.count,
            release=self.version,
            clock=clock,
        )
        self.state.watch_heartbeat = settings.watch_heartbeat
        self._gate = Gate(
            super().__call__,
            guard=guard,
            names=self.state.names,
            ingest=self.state.ingest,
            refusals=self.state.refusals,
            max_body_bytes=settings.max_body_bytes,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._gate(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        schema = super().openapi()
        return schema if is_complete(schema) else complete(schema)


def create_app(
    settings: Settings | None = None,
    *,
    store: EngineStore | None = None,
    clock: Clock = system_clock,
    pause: Pause = asyncio.sleep,
) -> FastAPI:
    """Return Ops-Core as an app; its lifespan opens the store and closes it.

    Args:
        settings: taken from the environment unless given.
        store: used instead of the one that `settings.database_url` names; not opened yet.
        clock: returns now, in microseconds since the Unix epoch.
        pause: what the server's own loops wait with.

    Raises `ConfigurationError` for settings that cannot be used.
    """
    settings = settings or Settings.resolve()
    kept = store or _store(settings.database_url)
    opscore = OpsCore(kept, clock=clock, extra_states=settings.extra_states)
    file = settings.api_keys_file
    keys = None if file is None else KeyFile(file)
    app = _App(
        settings=settings,
        opscore=opscore,
        engine=_engine(settings, opscore, kept, clock),
        guard=_guard(settings, keys, clock),
        webhook=_webhook(settings, opscore, clock),
        clock=clock,
        title="Ops-Core",
        description="Tracks the life of agents and hands them tasks.",
        version=version("opscore-middleware"),
        lifespan=_lifespan(settings, keys, pause),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            HTTPException: _unmatched,
            RequestValidationError: _invalid,
            Repeated: answer_again,
        },
    )
    app.add_middleware(AnswerFailures, refusals=app.state.refusals)
    for noun in _NOUNS:
        app.include_router(noun.router)
    add_docs(app)
    return app


def _engine(settings: Settings, opscore: OpsCore, store: EngineStore, clock: Clock) -> Engine:
    expressions = JmesPath()
    return Engine(
        store,
        clock=clock,
        mark=lambda: opscore.mark,
        parse=partial(parse, expressions=expressions, cron=next_run),
        expressions=expressions,
        cron=next_run,
        agentkit=settings.agentkit_api_url is not None,
        infer=settings.infer,
    )


def _guard(settings: Settings, keys: KeyFile | None, clock: Clock) -> Guard:
    key = settings.api_key
    return Guard(
        None if key is None else key.get_secret_value(),
        keys,
        open_paths={"/metrics"} if settings.metrics_public else (),
        clock=clock,
    )


def _webhook(settings: Settings, opscore: OpsCore, clock: Clock) -> Webhook:
    return Webhook(
        opscore,
        secrets=settings.webhook_secrets,
        insecure=settings.webhook_insecure,
        clock=clock,
    )


def _store(url: str) -> EngineStore:
    try:
        return open_store(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"OPSCORE_DATABASE_URL: {error.message}") from error


def _lifespan(settings: Settings, keys: KeyFile | None, pause: Pause) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opscore: OpsCore = app.state.opscore
        await opscore.store.open()
        app.state.started = time.monotonic()
        log.info("started", store=opscore.store.name, version=app.version)
        if app.state.webhook.is_open:
            log.warning(
                "webhook_is_open",
                detail="Whoever reaches this server can register agents by the webhook; set "
                "OPSCORE_WEBHOOK_SECRET instead of OPSCORE_WEBHOOK_INSECURE.",
            )
        try:
            async with AsyncExitStack() as stack:
                # Made anew with each life of the app: it belongs to an event loop.
                hub = Hub(opscore.store, backlog=settings.watch_backlog_bytes)
                app.state.hub = hub
                stack.callback(hub.close)
                loops = _loops(settings, keys, app)
                agentkit = None
                if settings.agentkit_api_url is not None:
                    agentkit = AsyncAgentKit(settings.agentkit_api_url)
                    await stack.enter_async_context(agentkit)
                    loops["reconciliation"] = reconciliation(opscore, agentkit)
                dispatcher = None
                if settings.dispatch:
                    dispatcher = await _dispatcher(settings, app, agentkit, stack)
                    loops |= dispatcher.loops()
                await stack.enter_async_context(running(loops, pause))
                if dispatcher is not None:
                    stack.push_async_callback(dispatcher.close)
                yield
        finally:
            await opscore.store.close()
            log.info("stopped")

    return lifespan


def _loops(settings: Settings, keys: KeyFile | None, app: FastAPI) -> dict[str, Loop]:
    """Return what the server does by itself, whatever else is configured."""
    opscore: OpsCore = app.state.opscore
    loops = {
        "watch": watch(opscore),
        "events": app.state.hub.loop(),
        "overdue": taking_out(opscore),
        "instances": letting_go(opscore, retention=settings.instance_retention),
        "stopped": app.state.stopped.loop(),
    }
    if settings.history_days is not None:
        loops["history"] = forgetting(opscore, days=settings.history_days)
        loops["runs"] = forgetting_runs(
            app.state.engine.store, days=settings.history_days, clock=app.state.clock
        )
    if keys is not None:
        loops["keys"] = reloading(keys)
        loops["admissions"] = app.state.hub.admissions()
    return loops


async def _dispatcher(
    settings: Settings, app: FastAPI, agentkit: AsyncAgentKit | None, stack: AsyncExitStack
) -> Dispatcher:
    sender = Sender(
        AllowedTransport(settings.allowed_endpoints), agentkit=agentkit, clock=app.state.clock
    )
    stack.push_async_callback(sender.close)
    return Dispatcher(
        app.state.engine,
        sender,
        agentkit=agentkit is not None,
        most=settings.sending,
        tally=app.state.dispatched,
        clock=app.state.clock,
    )


async def _unmatched(request: Request, error: HTTPException) -> Response:
    """Answer for the router, which found no route for a path or none for a method."""
    path = route_path(request.scope)
    allowed = ", ".join(methods_of(request.app.openapi(), path))
    allowed = allowed or (error.headers or {}).get("Allow", "")
    if allowed:
        answer = problem(
            405,
            "method_not_allowed",
            f"{path} does not answer to {request.method}, only to {allowed}.",
            headers=[(b"allow", allowed.encode())],
        )
    else:
        answer = problem(
            404, "not_found", f"There is nothing at {path}; /docs shows what there is."
        )
    return as_response(_refused(request, answer))


def _refused(request: Request, answer: Answer) -> Answer:
    return refuse("request_refused", request.scope, answer, request.app.state.refusals)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    """Answer for FastAPI, which found a path or a query that is not as documented."""
    answer = answer_to(ValidationFailed(list(error.errors())))
    return as_response(_refused(request, answer))
