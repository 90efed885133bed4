"""Clients that were made before their process was forked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from opscore_middleware.protocol import sse
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

EVENT = {
    "agentId": "a",
    "agentName": "n",
    "state": "idle",
    "details": None,
    "timestamp": "2026-01-31T12:00:00Z",
    "receivedAt": "2026-01-31T12:00:00Z",
    "instanceId": None,
    "coalesced": 0,
    "errors": 0,
}


class Server(ThreadingHTTPServer):
    """Answers anything, and remembers the ports that it was asked from, in this order.

    Each stream has the events 1 and 2, the latter once another stream has gone on after the first.
    An event's sequence is the port that it goes to.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ports: list[int] = []
        self.gone_on = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One connection to the server."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer with an object, or with a stream that ends with the connection."""
        port = self.client_address[1]
        self.server.ports.append(port)
        is_stream = self.path.startswith("/v1/opscore/events")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        if not is_stream:
            self.send_header("Content-Length", "2")
        self.end_headers()
        if not is_stream:
            self.wfile.write(b"{}")
            return
        self.close_connection = True
        self.wfile.write(event(1, port))
        if self.path.endswith("after=1"):
            self.server.gone_on.set()
        self.server.gone_on.wait(TIMEOUT)
        self.wfile.write(event(2, port))

    def log_message(self, *_args: object) -> None:
        """Keep quiet."""


def event(event_id: int, port: int) -> bytes:
    """Return an event as it is streamed."""
    told = EVENT | {"eventId": event_id, "sequence": port}
    return sse.block(sse.TRANSITION, event_id=event_id, data=json.dumps(told).encode())


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a running server."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(script: str, url: str) -> str:
    """Run a script that forks, see that it and its child end well, and return what it printed."""
    with_warnings = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [*with_warnings, "-c", textwrap.dedent(script), url],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


SYNC = """
import os, sys
from opscore_middleware.agentkit import AgentKit
from opscore_middleware.client import OpsCoreClient

with {client}(sys.argv[1]) as client:
    client.{call}()
    if os.fork() == 0:
        with client:
            client.{call}()
            client.{call}()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    client.{call}()
"""
ASYNC = """
import asyncio, os, sys
from opscore_middleware.agentkit import AsyncAgentKit
from opscore_middleware.client import AsyncOpsCoreClient

async def twice():
    await client.{call}()
    await client.{call}()
    await client.{close}()

client = {client}(sys.argv[1])
asyncio.run(client.{call}())
if os.fork() == 0:
    asyncio.run(twice())
    os._exit(0)
# Not by the interpreter's end: the loop that could close the parent's connection is gone.
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.parametrize(
    ("client", "call"), [("OpsCoreClient", "health"), ("AgentKit", "ping")], ids=["sdk", "agentkit"]
)
def test_a_forked_child_has_connections_of_its_own(server: Server, client: str, call: str) -> None:
    run(SYNC.format(client=client, call=call), server.url)
    before, *child, after = server.ports
    assert len({before, *child}) == 2
    assert child[0] == child[1]
    assert before == after


@pytest.mark.parametrize(
    ("client", "call", "close"),
    [("AsyncOpsCoreClient", "health", "aclose"), ("AsyncAgentKit", "ping", "close")],
    ids=["sdk", "agentkit"],
)
def test_a_forked_child_has_connections_of_its_own_with_async_too(
    server: Server, client: str, call: str, close: str
) -> None:
    run(ASYNC.format(client=client, call=call, close=close), server.url)
    before, *child = server.ports
    assert len({before, *child}) == 2
    assert child[0] == child[1]


WATCH = """
import os, sys
from opscore_middleware.client import OpsCoreClient

with OpsCoreClient(sys.argv[1]) as client:
    events = client.watch()
    first = next(events)
    child = os.fork() == 0
    if not child:
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    second = next(events)
    print(child, first.sequence == second.sequence, flush=True)
    client.close()
    if child:
        os._exit(0)
"""


def test_a_watch_goes_on_in_parent_and_child_each_with_a_stream_of_its_own(server: Server) -> None:
    assert run(WATCH, server.url).splitlines() == ["True False", "False True"]
    assert len(set(server.ports)) == 2
