"""How long a call may take, whatever little comes of its answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest

from opscore_middleware.client import AsyncOpsCoreClient, OpsCoreClient
from opscore_middleware.errors import RemoteUnavailable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n"
LONGEST = 0.5
"""Seconds that a call may take here."""
MUCH_LONGER = 10 * LONGEST
PAUSE = LONGEST / 10
"""Seconds between two bytes; a whole answer takes longer than a test waits."""


class Dripping:
    """A server that says a byte now and then: all of its answer so, or what comes after its head.

    With `first` it answers that many requests of a connection at once.
    """

    def __init__(self, at_once: bytes, first: int = 0) -> None:
        self._at_once = at_once
        self._first = first
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        connected, _ = self._listener.accept()
        with connected:
            for _ in range(self._first):
                connected.recv(65536)
                connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            connected.recv(65536)
            connected.sendall(self._at_once)
            for byte in (HEAD + b" " * 400)[len(self._at_once) :]:
                try:
                    connected.sendall(bytes([byte]))
                except OSError:  # the client has hung up
                    return
                if self._over.wait(PAUSE):
                    return


@pytest.fixture(params=["head", "body", "body of a later answer"])
def dripping(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Return a server's address, and how many calls it answers at once before one that drips."""
    first = 1 if "later" in request.param else 0
    with Dripping(b"" if request.param == "head" else HEAD, first) as server:
        yield server.url, first


def test_an_answer_that_drips_is_waited_for_no_longer_than_told(dripping: tuple[str, int]) -> None:
    url, first = dripping
    with OpsCoreClient(url, timeout=LONGEST) as client:
        for _ in range(first):
            client.health()
        began = time.monotonic()
        with pytest.raises(RemoteUnavailable, match="no answer from Ops-Core"):
            client.health()
        assert LONGEST * 0.9 < time.monotonic() - began < MUCH_LONGER


@pytest.mark.anyio
async def test_nor_by_async_callers(dripping: tuple[str, int]) -> None:
    url, first = dripping
    async with AsyncOpsCoreClient(url, timeout=LONGEST) as client:
        for _ in range(first):
            await client.health()
        began = time.monotonic()
        with pytest.raises(RemoteUnavailable, match="no answer from Ops-Core"):
            await client.health()
        assert LONGEST * 0.9 < time.monotonic() - began < MUCH_LONGER
