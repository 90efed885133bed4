"""Many small agents in one process, each with its own middleware and its own port.

    python -m tests.benchmarks.task_agents NUMBER CAPABILITY

Where Ops-Core is, the environment says. A task is done as soon as its handler is entered, and its
result is when that was.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from opscore_middleware import OpsCoreMiddleware

__all__ = ["main"]


async def work(request: Request) -> Response:
    """Answer a task with the time at which it came, in seconds of the machine's monotonic clock."""
    entered = time.monotonic()
    await request.body()
    return JSONResponse({"entered": entered})


class _Server(uvicorn.Server):
    """One of many in a process, whose signals are heard for all of them at once."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _agent(capability: str, port: int) -> _Server:
    app = OpsCoreMiddleware(
        Starlette(routes=[Route("/task", work, methods=["POST"])]),
        agent_name=f"{capability}-{port}",
        capabilities=[capability],
        contact_endpoint=f"http://127.0.0.1:{port}/task",
        handle_signals=False,
    )
    return _Server(uvicorn.Config(app, lifespan="on", access_log=False, log_level="warning"))


async def _serve(number: int, capability: str) -> None:
    # Said to be TCP, or asyncio would leave Nagle on.
    sockets = [socket.socket(proto=socket.IPPROTO_TCP) for _ in range(number)]
    for listener in sockets:
        listener.bind(("127.0.0.1", 0))
    servers = [_agent(capability, listener.getsockname()[1]) for listener in sockets]

    def end() -> None:
        for server in servers:
            server.should_exit = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    await asyncio.gather(
        *(server.serve([one]) for server, one in zip(servers, sockets, strict=True))
    )


def main() -> None:
    """Serve until SIGTERM."""
    number, capability = sys.argv[1:]
    uvloop.run(_serve(int(number), capability))


if __name__ == "__main__":
    main()
