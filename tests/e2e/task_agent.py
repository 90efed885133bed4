"""An agent that does tasks, as its author would write it; each that it does it writes into a file,
so that a test sees what was done, by whom and how often.
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from opscore_middleware import OpsCoreMiddleware
from tests.support.waiting import wait_until_async

done = Path(os.environ["DONE"])


async def health(_request: Request) -> Response:
    """Say that it serves."""
    return Response()


async def task(request: Request) -> Response:
    """Add up what it is given, once the file that it waits for is there."""
    message = await request.json()
    payload = message["payload"]
    _write(f"begun {message['opscore_task_id']}")
    if "wait_for" in payload:
        go_on = Path(payload["wait_for"])
        await wait_until_async(go_on.exists, timeout=60, message=f"{go_on} to be there")
    _write(f"ended {message['opscore_task_id']}")
    answer = {"sum": sum(payload.get("numbers", [])), "by": os.environ["OPSCORE_AGENT_NAME"]}
    return JSONResponse(answer)


def _write(line: str) -> None:
    with done.open("a") as file:
        file.write(f"{os.getpid()} {line}\n")


app = Starlette(
    routes=[Route("/health", health), Route("/task", task, methods=["POST"])],
    middleware=[Middleware(OpsCoreMiddleware)],
)
