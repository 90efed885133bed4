"""Sentry gets the app's errors once, and nothing of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agent.test_process import Sink, run

# In a process of its own: Sentry changes what it integrates with for good. The request waits
# until our first call is through, so that it is made while Sentry's transaction is open; the
# socket integration would make a span of each connection in it.
SCRIPT = """
import asyncio, gc, json, sys
import sentry_sdk
from sentry_sdk.integrations.socket import SocketIntegration
from sentry_sdk.transport import Transport

sent = []

class Kept(Transport):
    def capture_envelope(self, envelope):
        sent.extend(
            {"type": item.type, **(item.payload.json or {})} for item in envelope.items
        )

sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1", transport=Kept, traces_sample_rate=1.0,
    integrations=[SocketIntegration()], auto_session_tracking=False,
)

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from opscore_middleware import OpsCoreMiddleware

url, how = sys.argv[1:]
made = []

class Watching(OpsCoreMiddleware):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        made.append(self)

async def work(request):
    while how != "without" and made[0].agent_id is None:
        await asyncio.sleep(0.001)
    return PlainTextResponse("done")

async def fail(request):
    raise ValueError("no ink")

settings = {"api_url": url, "agent_name": "watched"}
app = Starlette(
    routes=[Route("/job", work, methods=["POST"]), Route("/fail", fail, methods=["POST"])],
    middleware=[Middleware(Watching, **settings)] if how == "inside" else [],
)
if how == "around":
    app = Watching(app, **settings)

async def serve(path):
    async def receive():
        return {"type": "http.request"}
    async def send(message):
        pass
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"",
             "root_path": "", "scheme": "http", "server": ("127.0.0.1", 80)}
    try:
        await app(scope, receive, send)
    except ValueError:
        pass

for path in ("/job", "/fail"):
    asyncio.run(serve(path))
for agent in made:
    agent._runtime.flush(5)
sentry_sdk.flush()
print(json.dumps(sent))
"""


def captured(sink: Sink, how: str) -> list[dict[str, Any]]:
    """Return what reaches Sentry of a request that is served and one that fails."""
    items: list[dict[str, Any]] = json.loads(run(SCRIPT, sink.url, how).splitlines()[-1])
    return items


def told(items: list[dict[str, Any]]) -> list[Any]:
    return [
        (
            item["type"],
            item.get("transaction"),
            [error["type"] for error in item.get("exception", {}).get("values", [])],
            [(span["op"], span["description"]) for span in item.get("spans", [])],
            [crumb["message"] for crumb in item.get("breadcrumbs", {}).get("values", [])],
        )
        for item in items
    ]


@pytest.mark.trap("42")
@pytest.mark.parametrize("how", ["inside", "around"])
def test_sentry_is_told_the_same_with_us_as_without(how: str, sink: Sink) -> None:
    without = told(captured(sink, "without"))
    assert [item[2] for item in without if item[0] == "event"] == [["ValueError"]]
    assert told(captured(sink, how)) == without
    assert "error" in sink.states
