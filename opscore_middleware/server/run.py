"""The process that is the server: one socket, one loop, a clean end; or several that share one."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Final, NoReturn

import uvicorn
from fastapi import FastAPI

from opscore_middleware.core.store import Store
from opscore_middleware.errors import ConfigurationError, OpsCoreError
from opscore_middleware.server.app import create_app
from opscore_middleware.server.board import Seat
from opscore_middleware.server.heads import http_protocol
from opscore_middleware.server.logs import configure, get_logger
from opscore_middleware.server.loops import Loop, running
from opscore_middleware.server.settings import Settings
from opscore_middleware.server.shared_metrics import SharedMetrics
from opscore_middleware.server.tracing import tracing
from opscore_middleware.server.workers import BEAT, end_with_the_supervisor, supervise

__all__ = ["Server", "serve"]

log = get_logger(__name__)

GRACE: Final = 5
"""How long requests that are under way may take to end once the process is to stop, in seconds."""
_GARBAGE: Final = (50_000, 20, 100)
"""How many objects more there have to be before the collector looks, by generation."""
GOODBYE: Final = 0.4
"""How long those who watch may take to read that it is over, in seconds."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, and return by `SystemExit(0)` then.

    Raises `ConfigurationError` when the address cannot or must not be listened on, or when there
    are to be several workers on a store for one; `StoreUnavailable` when the database cannot be
    opened.
    """
    settings.require_safe_address()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    if settings.workers == 1:
        configure(settings.log_level, settings.log_format)
        app = create_app(settings)
        with _listener(settings.host, settings.port) as listener:
            _run(app, listener, {})
    else:
        _serve_together(settings)


def _serve_together(settings: Settings) -> None:
    _configure_one_of_several(settings)
    # Made here too, so that what cannot be used is said once, and the schema is brought up to date
    # by one.
    with tracing():
        pass
    store = create_app(settings).state.opscore.store
    if store.name == "sqlite":
        raise ConfigurationError(
            f"OPSCORE_WORKERS={settings.workers} needs PostgreSQL, since a SQLite file serves one "
            "process at a time: set OPSCORE_DATABASE_URL to a postgresql:// URL, or run one "
            "worker.",
            setting="OPSCORE_WORKERS",
        )
    with _listener(settings.host, settings.port) as listener:
        asyncio.run(_open_and_close(store))
        supervise(
            partial(_work, settings, listener),
            settings.workers,
            patience=settings.worker_timeout,
        )


def _work(settings: Settings, listener: socket.socket, seat: Seat) -> None:
    """Be one of several processes on one socket, in a fresh interpreter."""
    end_with_the_supervisor()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    _configure_one_of_several(settings)
    try:
        app = create_app(settings)
        _run(app, listener, {"life": _life(seat, app.state.metrics.share(seat))})
    except OpsCoreError as error:
        log.error("worker_failed", detail=error.message)
        sys.exit(1)


def _configure_one_of_several(settings: Settings) -> None:
    configure(settings.log_level, settings.log_format, fields={"pid": os.getpid()})


def _life(seat: Seat, measured: SharedMetrics) -> Loop:
    """Show the supervisor that this worker's loop goes round, and the others what it measures."""

    async def step() -> float:
        seat.beat()
        measured.write()
        return BEAT

    return Loop(step, retry=BEAT)


async def _open_and_close(store: Store) -> None:
    await store.open()
    await store.close()


def _run(app: FastAPI, listener: socket.socket, beside: Mapping[str, Loop]) -> None:
    with tracing() as traced:
        config = uvicorn.Config(
            traced(app),
            # Entered below: the web server would wrap what goes wrong in a traceback of its own.
            lifespan="off",
            http=http_protocol(),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            # Nobody may claim to be another peer than the one that connected.
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE,
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(app, Server(config, app), listener, beside))


class Server(uvicorn.Server):
    """Says when it takes connections, and where; lets those who watch go when it stops.

    Without that it would wait for them: their streams have no end of their own.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.hub.close()
        cutting_off = asyncio.create_task(self._cut_off())
        await super().shutdown(sockets=sockets)
        cutting_off.cancel()

    async def _cut_off(self) -> None:
        """Drop the connections of those who watched and do not read that it is over."""
        await asyncio.sleep(GOODBYE)
        stuck = self._app.state.hub.peers
        for connection in list(self.server_state.connections):
            peer = getattr(connection, "client", None)  # not every kind of connection has one
            if peer is not None and peer in stuck:
                connection.transport.abort()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or ():
            try:
                listener.listen(self.config.backlog)
            except OSError as error:  # another has begun to listen since the address was bound
                host, port = listener.getsockname()[:2]
                raise _taken(host, port, error) from error
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            log.info("listening", url=_url(listener))


async def _serve(
    app: FastAPI, server: uvicorn.Server, listener: socket.socket, beside: Mapping[str, Loop]
) -> None:
    async with app.router.lifespan_context(app), running(beside, asyncio.sleep):
        _look_for_garbage_rarely()
        await server.serve(sockets=[listener])


def _look_for_garbage_rarely() -> None:
    """Leave what there is at the start alone, and look at the rest less often than Python does.

    Under load the collector looks through whatever is under way again and again, and finds nothing:
    that was a quarter of the time that hearing reports took.
    """
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    # Reached before the server listens to signals, and again when it has stopped for one.
    sys.exit(0)


def _listener(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # A name such as localhost may have several addresses; IPv4 is what most clients try.
        family, kind, protocol, _, address = min(found, key=lambda f: f[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Where somebody listens already this fails. Not before all is ready does it listen too:
            # who is refused meanwhile tries again in a while, who had to wait would come at once.
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise _taken(host, port, error) from error
    return listener


def _taken(host: str, port: int, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"Cannot listen on {host}:{port}: {error.strerror}. Choose another address with "
        "OPSCORE_HOST and OPSCORE_PORT (port 0 takes any that is free).",
        host=host,
        port=port,
    )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
