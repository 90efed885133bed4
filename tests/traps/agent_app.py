"""The agent that every server runs, written as its author would; one line knows of Ops-Core."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpcore  # noqa: F401 - as an app does that calls a model: it takes longer than a last word may
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from opscore_middleware import OpsCoreMiddleware
from tests.support.waiting import wait_until_async


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Fail to start where the test says so."""
    if app.state.fails_to_start:
        raise LookupError("no weights at /models")
    yield


async def until_released(released: threading.Event) -> None:
    await wait_until_async(released.is_set, message="the release")


async def health(_request: Request) -> Response:
    return PlainTextResponse("fine")


async def release(request: Request) -> Response:
    """Let go what waits."""
    request.app.state.released.set()
    return PlainTextResponse("released")


async def job(request: Request) -> Response:
    """Do it at once; the answer says by which process."""
    await request.body()
    return PlainTextResponse(str(os.getpid()))


async def hold(request: Request) -> Response:
    """Work until released."""
    await until_released(request.app.state.released)
    return PlainTextResponse("held")


async def fail(_request: Request) -> Response:
    """Fail as an agent with a bug does."""
    raise ValueError("the agent lost its place")


async def refuse(_request: Request) -> Response:
    """Fail with a status alone."""
    raise HTTPException(503, "the model is loading")


async def unavailable(_request: Request) -> Response:
    """Answer with a status that says failure."""
    return PlainTextResponse("no", status_code=503)


async def stream(_request: Request) -> Response:
    """Answer in parts."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"part"

    return StreamingResponse(parts())


async def torn(_request: Request) -> Response:
    """Fail in the middle of the answer."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"part"
        raise ValueError("torn")

    return StreamingResponse(parts())


async def events(_request: Request) -> Response:
    """Send events until the client leaves; each says when it was sent."""

    async def endless() -> AsyncIterator[str]:
        while True:
            yield f"data: {time.time()}\n\n"
            await anyio.sleep(0.02)

    return StreamingResponse(endless(), media_type="text/event-stream")


async def background(request: Request) -> Response:
    """Answer, then work on until released."""
    task = BackgroundTask(until_released, request.app.state.released)
    return PlainTextResponse("accepted", background=task)


async def failing_background(_request: Request) -> Response:
    """Answer, then fail."""

    async def task() -> None:
        raise ValueError("too late")

    return PlainTextResponse("accepted", background=BackgroundTask(task))


async def echo(websocket: WebSocket) -> None:
    """Answer each message."""
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


def create_app(**settings: Any) -> Starlette:
    """Return the agent; `settings` are the middleware's, beyond what the environment says."""
    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/release", release),
            Route("/events", events, methods=["GET", "POST"]),
            *(
                Route(f"/{endpoint.__name__}", endpoint, methods=["POST"])
                for endpoint in (
                    *(job, hold, fail, refuse, unavailable, stream, torn),
                    *(background, failing_background),
                )
            ),
            WebSocketRoute("/echo", echo),
        ],
        middleware=[Middleware(OpsCoreMiddleware, **settings)],
        lifespan=lifespan,
    )
    app.state.fails_to_start = "FAIL_TO_START" in os.environ
    # Not an event of any loop's: test clients serve each request in a loop of its own.
    app.state.released = threading.Event()
    return app


app = create_app()
