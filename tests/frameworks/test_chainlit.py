"""Apps on Chainlit."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# It writes its files where it is told to when it is loaded.
_FILES = tempfile.TemporaryDirectory()
os.environ["CHAINLIT_APP_ROOT"] = _FILES.name

import chainlit  # noqa: E402
from chainlit.server import app as chainlit_app  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.routing import Mount  # noqa: E402
from starlette.testclient import TestClient, WebSocketTestSession  # noqa: E402

from tests.agent.support import ScriptedOpsCore, watched  # noqa: E402
from tests.frameworks.easel import EASEL, Easel  # noqa: E402
from tests.support.waiting import TIMEOUT, wait_until  # noqa: E402


@chainlit.on_message
async def paint(message: Any) -> None:
    painted = await asyncio.to_thread(EASEL.paint, message.content)
    await chainlit.Message(content=painted).send()


def app() -> Starlette:
    return Starlette(routes=[Mount("/chat", chainlit_app)])


@contextmanager
def chat(client: TestClient) -> Iterator[WebSocketTestSession]:
    """Open a session, in the words of Socket.IO."""
    path = "/chat/ws/socket.io/?EIO=4&transport=websocket"
    who = {"sessionId": str(uuid.uuid4()), "clientType": "webapp", "userEnv": "{}"}
    with client.websocket_connect(path, headers={"Upgrade": "websocket"}) as socket:
        assert socket.receive_text().startswith("0")
        socket.send_text(f"40{json.dumps(who)}")
        assert socket.receive_text().startswith("40")
        yield socket


def say(socket: WebSocketTestSession, what: str) -> None:
    message = {
        "id": str(uuid.uuid4()),
        "name": "user",
        "type": "user_message",
        "output": what,
        "createdAt": "2026-01-01T00:00:00Z",
    }
    socket.send_text("42" + json.dumps(["client_message", {"message": message}]))


def test_a_message_is_active_until_it_is_answered(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    agent = watched(app(), ops_core)
    with TestClient(agent) as client, chat(client) as socket:
        wait_until(lambda: agent.state == "idle", message="the connection to settle")
        say(socket, "wait")
        assert easel.has_begun.wait(TIMEOUT)
        wait_until(lambda: ops_core.states[-1] == "active", message="the message to count")
        assert agent.state == "active"
        easel.may_go_on.set()
        wait_until(lambda: agent.state == "idle", message="the end of the message")
    assert "error" not in ops_core.states


def test_a_message_that_fails_is_told(ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app(), ops_core)) as client, chat(client) as socket:
        say(socket, "fail")
        wait_until(lambda: "error" in ops_core.states, message="the failure")
    (report,) = [report for report in ops_core.reports if report["state"] == "error"]
    error = {"type": "ValueError", "message": "no ink", "where": "on_message"}
    assert report["details"]["error"] == error


def test_switched_off_it_counts_by_its_sockets(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    agent = watched(app(), ops_core, integrations=["-chainlit"])
    with TestClient(agent) as client, chat(client) as socket:
        say(socket, "wait")
        assert easel.has_begun.wait(TIMEOUT)
        wait_until(lambda: agent.state == "idle", message="the socket to be asked for more")
        easel.may_go_on.set()
