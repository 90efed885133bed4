"""An agent under uvicorn in a process of its own, and a process that asks it all the time."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opscore_middleware import OpsCoreMiddleware
from tests.benchmarks.drive import REQUEST
from tests.support.processes import clean_environment
from tests.support.waiting import wait_until

__all__ = ["ASK", "JOB", "Asked", "black_hole", "load", "load_with_wrk", "serving", "stop"]


class Asked(NamedTuple):
    """What wrk sends."""

    path: str
    body: str
    content_type: str | None = None


JOB = Asked("/job", "hi")
ASK = Asked("/ask", '{"question": "What is it?", "user": "u-17"}', "application/json")
"""As most agents are asked; on FastAPI only."""


class Question(BaseModel):
    """What an agent is asked."""

    question: str
    user: str


async def answer(request: Request) -> Response:
    await request.body()
    return Response(b"ok")


def bare() -> Starlette:
    """Return the app that every variant serves."""
    return Starlette(routes=[Route("/job", answer, methods=["POST"])])


def watched() -> OpsCoreMiddleware:
    """Return the same with the middleware around it, set up by the environment."""
    return OpsCoreMiddleware(bare(), agent_name="bench")


bare_starlette, watched_starlette = bare, watched


def bare_fastapi() -> FastAPI:
    """Return the same on FastAPI, which most agents are written with, and a route with JSON."""
    app = FastAPI()

    @app.post("/job")
    async def work(request: Request) -> Response:
        await request.body()
        return Response(b"ok")

    @app.post("/ask")
    async def ask(question: Question) -> dict[str, str]:
        return {"answer": "It is so.", "user": question.user}

    return app


def watched_fastapi() -> OpsCoreMiddleware:
    """Return that with the middleware around it."""
    return OpsCoreMiddleware(bare_fastapi(), agent_name="bench")


@contextmanager
def serving(
    factory: str, *options: str, **env: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run uvicorn with one of the apps here; yield the process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Not handed over as a descriptor: asyncio would not take it for TCP, and leave Nagle on.
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", f"tests.benchmarks.load:{factory}", "--factory"),
            *("--port", str(port), "--log-level", "critical", *options),
        ],
        env=clean_environment(**env),
    )
    try:
        wait_until(lambda: _answers(port), message="uvicorn to answer")
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def stop(process: subprocess.Popen[bytes]) -> float:
    """Ask a server to end; return the seconds that it took."""
    start = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    return time.perf_counter() - start


@contextmanager
def black_hole() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        yield f"http://127.0.0.1:{hole.getsockname()[1]}"


def load(port: int, *, connections: int, requests: int) -> tuple[float, list[float]]:
    """Send requests from a process of its own; return how many a second, and what each took."""
    command = [sys.executable, "-m", "tests.benchmarks.drive"]
    done = subprocess.run(
        [*command, str(port), str(connections), str(requests)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    rate, *each = map(float, done.stdout.split())
    return rate, each


def load_with_wrk(
    port: int, *, connections: int, seconds: int, asked: Asked = JOB
) -> tuple[float, int]:
    """Have wrk send requests; return how many a second, and how many in all."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        lines = ['wrk.method = "POST"', f"wrk.body = '{asked.body}'"]
        if asked.content_type is not None:
            lines.append(f'wrk.headers["Content-Type"] = "{asked.content_type}"')
        script.write_text("\n".join(lines), encoding="ascii")
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)),
                f"http://127.0.0.1:{port}{asked.path}",
            ],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    count = re.search(r"(\d+) requests in", done.stdout)
    if rate is None or count is None or "Non-2xx" in done.stdout:
        raise RuntimeError(f"wrk did not get answers alone: {done.stdout}")
    return float(rate[1]), int(count[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(REQUEST)
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
