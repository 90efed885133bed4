"""What a request pays: microseconds added over a bare Starlette route.

Every variant wraps the same route and is called in turn, round after round, in this one process;
each figure is the median over rounds of the difference to the bare route in the same round.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import MutableMapping
from typing import Any

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from opscore_middleware import OpsCoreMiddleware
from opscore_middleware.testing import run_opscore

ROUNDS = 200
REQUESTS = 300


class PassThrough:
    """The least that a middleware can be."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


async def answer(request: Request) -> Response:
    return Response(b"ok")


async def receive() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: MutableMapping[str, Any]) -> None:
    pass


def scope(method: str) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/work",
        "raw_path": b"/work",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }


async def lap(app: ASGIApp, method: str) -> float:
    """Return the microseconds that one request takes, over a lap of them."""
    template = scope(method)
    start = time.perf_counter()
    for _ in range(REQUESTS):
        await app(dict(template), receive, send)
    return (time.perf_counter() - start) / REQUESTS * 1e6


async def compare(apps: dict[str, ASGIApp], method: str) -> dict[str, list[float]]:
    """Return, for each app, what it adds to the first one, round by round."""
    for app in apps.values():
        await lap(app, method)
    added: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(ROUNDS):
        laps = {name: await lap(app, method) for name, app in apps.items()}
        bare = next(iter(laps.values()))
        for name, took in laps.items():
            added[name].append(took if name == "bare route" else took - bare)
    return added


def show(title: str, added: dict[str, list[float]]) -> None:
    """Print one comparison as a table."""
    ours = statistics.median(added["opscore, reporting"])
    print(f"\n{title}  (microseconds per request, median of {ROUNDS} rounds)")
    for name, values in added.items():
        low, *_, high = statistics.quantiles(values, n=10)
        middle = statistics.median(values)
        if name == "bare route":
            print(f"  {name:38} {middle:8.2f}")
        else:
            print(
                f"  {'+ ' + name:38} {middle:8.2f}   (p10 {low:.2f}, p90 {high:.2f};"
                f" {middle / ours:.2f} of ours)"
            )


def main() -> None:
    bare = Starlette(
        routes=[Route("/work", answer, methods=["POST", "GET"])],
    )
    on, off = TracerProvider(sampler=ALWAYS_ON), TracerProvider(sampler=ALWAYS_OFF)
    with run_opscore() as opscore:
        apps: dict[str, ASGIApp] = {
            "bare route": bare,
            "pass-through": PassThrough(bare),
            "opscore, reporting": OpsCoreMiddleware(
                bare, agent_name="bench", api_url=opscore.url, api_key=opscore.api_key
            ),
            "opscore, Ops-Core away": OpsCoreMiddleware(
                bare, agent_name="bench", api_url="http://127.0.0.1:9"
            ),
            "opentelemetry, sampled off": OpenTelemetryMiddleware(bare, tracer_provider=off),
            "opentelemetry, sampled on": OpenTelemetryMiddleware(bare, tracer_provider=on),
        }
        show("A request that is work (POST)", asyncio.run(compare(apps, "POST")))
        show("A read (GET)", asyncio.run(compare(apps, "GET")))


if __name__ == "__main__":
    main()
