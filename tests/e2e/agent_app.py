"""An agent as its author would write it; only the `add_middleware` line knows of Ops-Core."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore  # noqa: F401 - as an app does that calls a model: it takes longer than a last word may
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from opscore_middleware import OpsCoreMiddleware


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Fail to start where the test says so."""
    if "FAIL_TO_START" in os.environ:
        raise LookupError("no weights at /models")
    yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(OpsCoreMiddleware)
held = asyncio.Event()


@app.post("/job")
async def work() -> int:
    """Do it at once; the answer says by which process."""
    return os.getpid()


@app.post("/hold")
async def hold() -> None:
    """Work until released."""
    held.clear()
    await held.wait()


@app.get("/release")
async def release() -> None:
    """Let `/hold` end."""
    held.set()


@app.post("/fail")
async def fail() -> None:
    """Fail as an agent with a bug would."""
    raise ValueError("the agent lost its place")


@app.post("/stream")
async def stream() -> StreamingResponse:
    """Stream until the client leaves."""

    async def events() -> AsyncIterator[bytes]:
        while True:
            yield b"data: 1\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(events(), media_type="text/event-stream")
