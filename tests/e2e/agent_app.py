"""An agent as its author would write it; only the `middleware` line knows of Ops-Core."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore  # noqa: F401 - as an app does that calls a model: it takes longer than a last word may
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from opscore_middleware import OpsCoreMiddleware


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    """Fail to start where the test says so."""
    if "FAIL_TO_START" in os.environ:
        raise LookupError("no weights at /models")
    yield


held = asyncio.Event()


async def health(_request: Request) -> Response:
    """Say that it serves."""
    return Response()


async def job(_request: Request) -> Response:
    """Do it at once; the answer says by which process."""
    return JSONResponse(os.getpid())


async def hold(_request: Request) -> Response:
    """Work until released."""
    held.clear()
    await held.wait()
    return Response()


async def release(_request: Request) -> Response:
    """Let `/hold` end."""
    held.set()
    return Response()


async def fail(_request: Request) -> Response:
    """Fail as an agent with a bug would."""
    raise ValueError("the agent lost its place")


async def stream(_request: Request) -> Response:
    """Stream until the client leaves."""

    async def events() -> AsyncIterator[bytes]:
        while True:
            yield b"data: 1\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(events(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/job", job, methods=["POST"]),
        Route("/hold", hold, methods=["POST"]),
        Route("/release", release),
        Route("/fail", fail, methods=["POST"]),
        Route("/stream", stream, methods=["POST"]),
    ],
    middleware=[Middleware(OpsCoreMiddleware)],
    lifespan=lifespan,
)
