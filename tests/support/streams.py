"""A stream of events, read as a test wants it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from opscore_middleware.protocol.sse import Message, Reader
from tests.support.waiting import TIMEOUT

__all__ = ["Stream", "watching"]


class Stream:
    """One open stream: `messages` and `events` hold what has come, `raw` its bytes."""

    def __init__(self, answer: httpx.Response) -> None:
        self.messages: list[Message] = []
        self.events: list[dict[str, Any]] = []
        self.raw = bytearray()
        self._answer = answer
        self._pieces = answer.iter_bytes()
        self._reader = Reader()

    @property
    def last_id(self) -> str | None:
        """The id that a browser would go on after."""
        return self._reader.event_id

    def read(self, until: Callable[[], Any]) -> None:
        """Read on until the condition holds; fails when the stream ends before."""
        while not until():
            piece = next(self._pieces, None)
            assert piece is not None, f"the stream has ended with {self.messages[-1:]}"
            self._take(piece)

    def read_events(self, count: int) -> list[dict[str, Any]]:
        """Read until so many transitions have come, and return all of them."""
        self.read(lambda: len(self.events) >= count)
        return self.events

    def read_to_end(self) -> Message:
        """Read until the server ends the stream, and return the last message."""
        for piece in self._pieces:
            self._take(piece)
        return self.messages[-1]

    def _take(self, piece: bytes) -> None:
        self.raw += piece
        for message in self._reader.feed(piece):
            self.messages.append(message)
            if message.event == "transition":
                self.events.append(json.loads(message.data))


@contextmanager
def watching(
    url: str, headers: dict[str, str] | None = None, timeout: float = TIMEOUT, **query: Any
) -> Iterator[Stream]:
    """Watch an Ops-Core; what the query finds comes from when this has returned on."""
    address = f"{url}/v1/opscore/events"
    # No TLS is spoken here: to read the machine's certificates takes longer than the rest.
    client = httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), timeout=timeout)
    with client, client.stream("GET", address, params=query, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        stream = Stream(answer)
        stream.read(lambda: stream.last_id is not None)
        yield stream
