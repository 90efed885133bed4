"""HTTP/1.1 by hand over connections that are kept alive, so that many agents cost little."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast
from urllib.parse import urlsplit

__all__ = ["Connection", "connect", "request_bytes"]


def request_bytes(method: str, path: str, *, key: str, body: Any = None) -> bytes:
    """Return a request as it is sent, its body as JSON."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nAccept: application/json\r\n"
        f"User-Agent: benchmark\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Connection(asyncio.Protocol):
    """One connection, on which one request at a time waits for its answer."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = b""
        self.open = False

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body. Raises `ConnectionError` when it is lost."""
        if not self.open:
            raise ConnectionResetError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Drop it at once."""
        if self.open:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of it with every loop, but one in all it does.
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        status, *fields = head.split(b"\r\n")
        names = (field.lower().partition(b":") for field in fields)
        length = next(int(value) for name, _, value in names if name == b"content-length")
        if len(body) >= length:
            self._received = b""
            if self._answer is not None and not self._answer.done():
                self._answer.set_result((int(status.split()[1]), body[:length]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server hung up"))


async def connect(url: str) -> Connection:
    """Return a connection to a server on this machine. Raises `OSError`."""
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, address.hostname, address.port)
    return connection
