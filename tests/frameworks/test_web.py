"""Web frameworks: the same bytes with us as without, and the states of what happened."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from tests.agent.support import ScriptedOpsCore, watched
from tests.frameworks.hosts import HOSTS

WITHOUT_LIFESPAN: Final = {"Django"}
WITH_ROUTES: Final = {"Starlette", "FastAPI", "Litestar"}

CASES: Final = {
    "a request": ("/job", "idle"),
    "a failing request": ("/fail", "error"),
    "a failure inside a 200": ("/rpc", "error"),
    "a stream": ("/stream/well", "idle"),
    "a stream that breaks": ("/stream/torn", "error"),
    "a stream that tells of a failure": ("/stream/told", "error"),
}


class Server:
    """Starts an app, sends it one request and stops it, and writes down what it was sent."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.sent: list[Any] = []

    def request(self, path: str) -> list[Any]:
        """Return what was answered, and what the app raised to the server."""
        asyncio.run(self._serve(path))
        return self.sent

    async def _serve(self, path: str) -> None:
        events: asyncio.Queue[Any] = asyncio.Queue()
        told: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        lifespan = asyncio.create_task(self._app(scope, events.get, told.put))
        lifespan.add_done_callback(told.put_nowait)  # as Django's, which has none
        await events.put({"type": "lifespan.startup"})
        await told.get()
        await self._request(path)
        await events.put({"type": "lifespan.shutdown"})
        await asyncio.wait([lifespan])
        lifespan.exception()

    async def _request(self, path: str) -> None:
        body = [b'{"paint": "a hat"}']
        answered = asyncio.Event()

        async def receive() -> Any:
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
            await answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [h for h in message["headers"] if h[0].lower() != b"date"]
                self.sent.append((message["status"], headers))
            else:
                self.sent.append(message.get("body", b""))
                if not message.get("more_body", False):
                    answered.set()

        try:
            await self._app(_scope(path), receive, send)
        except Exception as error:
            self.sent.append(repr(error))
        answered.set()


def _scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"agent.test"),
            (b"content-type", b"application/json"),
            (b"content-length", b"18"),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("host", HOSTS)
def test_the_bytes_are_the_same_and_the_states_are_right(
    host: str, case: str, ops_core: ScriptedOpsCore
) -> None:
    path, ending = CASES[case]
    bare = Server(HOSTS[host]()).request(path)
    assert bare
    assert Server(watched(HOSTS[host](), ops_core)).request(path) == bare
    ended = ["draining", "finished"] if host not in WITHOUT_LIFESPAN else []
    reports = ops_core.wait_for("initializing", "idle", "active", ending, *ended)
    if ending == "error":
        where = reports[3]["details"]["error"]["where"]
        route = path if path.count("/") == 1 else "/stream/{ending}"
        assert where == (f"POST {route}" if host in WITH_ROUTES else "POST")
