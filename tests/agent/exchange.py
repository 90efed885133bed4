"""One HTTP request to an ASGI app in this task, as a server would bring it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from opscore_middleware import OpsCoreMiddleware
from tests.agent.support import ScriptedOpsCore, watched

__all__ = ["JSON", "Exchange", "answering", "doing", "reported"]

JSON = ((b"content-type", b"application/json"),)


class Exchange:
    """A request whose body comes in `parts`, and what was answered to it.

    Args:
        leaves: the client is gone as soon as the app asks for more than the body.
    """

    def __init__(
        self,
        *parts: bytes,
        method: str = "POST",
        path: str = "/job",
        headers: Any = (),
        leaves: bool = False,
    ) -> None:
        self._parts = list(parts) or [b""]
        self._leaves = leaves
        self._answered = anyio.Event()
        self.scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
        self.status = 0
        self.headers_sent: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def run(self, app: Any) -> Exchange:
        """Have the app serve it; what the app raises is raised here too."""
        await app(self.scope, self._receive, self._send)
        return self

    async def _receive(self) -> dict[str, Any]:
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        if not self._leaves:
            await self._answered.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers_sent = list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                self._answered.set()


def doing(
    work: Callable[[], Awaitable[object]],
    ops_core: ScriptedOpsCore,
    *,
    status: int = 200,
    **settings: Any,
) -> OpsCoreMiddleware:
    """Return an agent that reads the body, does `work` and answers with `status`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await work()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    return watched(app, ops_core, **settings)


def answering(
    ops_core: ScriptedOpsCore, *chunks: bytes, media: str = "application/json", **settings: Any
) -> OpsCoreMiddleware:
    """Return an agent that answers 200 with these chunks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", media.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return watched(app, ops_core, **settings)


async def reported(ops_core: ScriptedOpsCore, *states: str) -> list[dict[str, Any]]:
    """Wait until exactly these states were reported, without holding up the loop."""
    return await anyio.to_thread.run_sync(ops_core.wait_for, *states)
