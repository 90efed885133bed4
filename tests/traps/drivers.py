"""What a scenario does to an agent, over a real connection or through Starlette's TestClient."""

from __future__ import annotations

from typing import Protocol

import httpx
from starlette.testclient import TestClient
from websockets.sync.client import connect

from tests.support.waiting import TIMEOUT

__all__ = ["Connection", "Driver", "InProcess"]


class Driver(Protocol):
    """A client of the agent."""

    def get(self, path: str) -> int:
        """Return the status that answers; 0 where the connection ended without one."""
        ...

    def post(self, path: str) -> int:
        """Do the same by POST."""
        ...

    def leave(self, method: str, path: str) -> None:
        """Read the beginning of an endless answer, and go."""
        ...

    def chat(self, messages: int) -> None:
        """Open a websocket, have so many messages answered, and close it."""
        ...


class Connection:
    """Reaches a server's process; usable from several threads."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=TIMEOUT)

    def get(self, path: str) -> int:
        return self.http.get(path).status_code

    def post(self, path: str) -> int:
        try:
            return self.http.post(path).status_code
        except httpx.TransportError:
            return 0

    def leave(self, method: str, path: str) -> None:
        with self.http.stream(method, path) as response:
            next(response.iter_raw())

    def chat(self, messages: int) -> None:
        address = str(self.http.base_url).replace("http://", "ws://") + "/echo"
        with connect(address, open_timeout=TIMEOUT, proxy=None) as websocket:
            for _ in range(messages):
                websocket.send("hello")
                websocket.recv(TIMEOUT)

    def close(self) -> None:
        self.http.close()


class InProcess:
    """Reaches the app through Starlette's TestClient."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def get(self, path: str) -> int:
        return self._client.get(path).status_code

    def post(self, path: str) -> int:
        return self._client.post(path).status_code

    def leave(self, method: str, path: str) -> None:
        raise NotImplementedError("TestClient reads each answer to its end")

    def chat(self, messages: int) -> None:
        with self._client.websocket_connect("/echo") as websocket:
            for _ in range(messages):
                websocket.send_text("hello")
                websocket.receive_text()
