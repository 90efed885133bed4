"""What a request pays: microseconds added over the bare app, for plain, JSON and streamed ones.

Every variant wraps the same app and is called in turn, round after round, in this one process.
Each figure is the difference between the best rounds, which a busy machine adds little to, with
the median of the differences within rounds beside it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import MutableMapping
from typing import Any, NamedTuple

import sentry_sdk
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from opscore_middleware import OpsCoreMiddleware
from opscore_middleware.testing import run_opscore

ROUNDS = 60
REQUESTS = 100
CHUNKS = 200

PLAIN = [(b"host", b"127.0.0.1"), (b"content-length", b"2")]
JSON = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
SHORT = json.dumps({"question": "What is it?", "user": "u-17"}).encode()
TEXT = json.dumps({"payload": {"text": "The quick brown fox. " * 45}}).encode()
EVENT = b'data: {"type": "TEXT_MESSAGE_CONTENT", "messageId": "0f2b6c3e", "delta": " quick"}\n\n'


class Case(NamedTuple):
    """One kind of request; `parts` of it share its price."""

    title: str
    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    unit: str = "request"
    parts: int = 1


CASES = (
    Case("A request that is work (POST)", "POST", "/plain", PLAIN, b"ok"),
    Case("A read (GET)", "GET", "/plain", PLAIN, b""),
    Case(f"JSON in and out, {len(TEXT)} bytes each way", "POST", "/json", JSON, TEXT),
    Case(f"JSON in and out, {len(SHORT)} bytes each way", "POST", "/json", JSON, SHORT),
    Case("A stream of plain chunks", "POST", "/chunks", PLAIN, b"", "chunk", CHUNKS),
    Case("A stream of events", "POST", "/events", PLAIN, b"", "chunk", CHUNKS),
)


class PassThrough:
    """The least that a middleware can be."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


async def plain(request: Request) -> Response:
    return Response(b"ok")


async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/json")


class Streaming:
    """Sends many chunks with as little around them as can be."""

    def __init__(self, media_type: bytes, chunk: bytes) -> None:
        self._headers = [(b"content-type", media_type)]
        self._chunk = chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        for _ in range(CHUNKS):
            await send({"type": "http.response.body", "body": self._chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def send(message: MutableMapping[str, Any]) -> None:
    pass


def scope(case: Case) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": case.method,
        "scheme": "http",
        "path": case.path,
        "raw_path": case.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": case.headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }


async def lap(app: ASGIApp, case: Case) -> float:
    """Return the microseconds that one part of a request takes, over a lap of requests."""
    template = scope(case)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": case.body, "more_body": False}

    requests = max(1, REQUESTS // (case.parts // 20 or 1))
    start = time.perf_counter()
    for _ in range(requests):
        await app(dict(template), receive, send)
    return (time.perf_counter() - start) / requests / case.parts * 1e6


async def compare(apps: dict[str, ASGIApp], case: Case) -> dict[str, list[float]]:
    """Return how long each app takes, round by round."""
    for app in apps.values():
        await lap(app, case)
    took: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(ROUNDS):
        for name, app in apps.items():
            took[name].append(await lap(app, case))
    return took


def show(case: Case, took: dict[str, list[float]]) -> None:
    """Print one comparison as a table."""
    print(f"\n{case.title}  (microseconds per {case.unit}, best of {ROUNDS} rounds)")
    bare = took.pop("bare app")
    print(f"  {'bare app':34} {min(bare):8.2f}")
    for name, values in took.items():
        added = min(values) - min(bare)
        median = statistics.median(ours - theirs for ours, theirs in zip(values, bare, strict=True))
        print(f"  {'+ ' + name:34} {added:8.2f}   (median of the differences {median:8.2f})")


def main() -> None:
    bare = Starlette(
        routes=[
            Route("/plain", plain, methods=["POST", "GET"]),
            Route("/json", echo, methods=["POST"]),
            Route("/chunks", Streaming(b"application/octet-stream", b"x" * 100)),
            Route("/events", Streaming(b"text/event-stream", EVENT)),
        ],
    )
    on, off = TracerProvider(sampler=ALWAYS_ON), TracerProvider(sampler=ALWAYS_OFF)
    sentry_sdk.init(
        dsn=None,
        traces_sample_rate=1.0,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    with run_opscore() as opscore:
        apps: dict[str, ASGIApp] = {
            "bare app": bare,
            "pass-through": PassThrough(bare),
            "opscore, reporting": OpsCoreMiddleware(
                bare, agent_name="bench", api_url=opscore.url, api_key=opscore.api_key
            ),
            "opscore, Ops-Core away": OpsCoreMiddleware(
                bare, agent_name="bench", api_url="http://127.0.0.1:9"
            ),
            "opentelemetry, sampled off": OpenTelemetryMiddleware(bare, tracer_provider=off),
            "opentelemetry, sampled on": OpenTelemetryMiddleware(bare, tracer_provider=on),
            "sentry, tracing": SentryAsgiMiddleware(bare),
        }
        for case in CASES:
            show(case, asyncio.run(compare(apps, case)))


if __name__ == "__main__":
    main()
