"""Server-Sent Events, as the HTML standard has them: written in blocks, read as they come.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["BYE", "HEARTBEAT", "LAGGING", "RESET", "TRANSITION", "Message", "Reader", "block"]

TRANSITION: Final = "transition"
"""An agent has changed its state; the data is an `AgentEvent`."""
RESET: Final = "reset"
"""Some events are not kept any more; the data says which is the first there is."""
LAGGING: Final = "lagging"
"""The last one of a stream: its reader was too slow, and may go on after the id given."""
BYE: Final = "bye"
"""The last one of a stream: the server is stopping."""
HEARTBEAT: Final = b": \n"
"""A comment, which says that the connection lives and nothing else."""


class Message(NamedTuple):
    """One message of a stream: `event` is its kind, `event_id` the last id given so far."""

    event: str
    data: str
    event_id: str


def block(event: str | None = None, *, event_id: int | None = None, data: bytes = b"") -> bytes:
    """Return one message. `data` has no line breaks; without data it only sets the id."""
    lines = []
    if event_id is not None:
        lines.append(b"id: %d\n" % event_id)
    if event is not None:
        lines.append(b"event: %s\n" % event.encode())
    if data:
        lines.append(b"data: %s\n" % data)
    return b"%s\n" % b"".join(lines)


class Reader:
    """Reads a stream in pieces, wherever they are cut.

    `event_id` is the id that the stream was left at, `retry` what the server asks to wait before
    the next connection, in seconds; both None until they are told.
    """

    def __init__(self) -> None:
        self.event_id: str | None = None
        self.retry: float | None = None
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._id: str | None = None
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Return the messages that `piece` completes."""
        *lines, self._pending = (self._pending + self._text.decode(piece)).split("\n")
        for line in lines:
            message = self._line(line.removesuffix("\r"))
            if message is not None:
                yield message

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isdecimal():
            self.retry = int(value) / 1000
        return None

    def _complete(self) -> Message | None:
        # Only now: a message that is cut off has not been seen.
        self.event_id = self._id
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        return Message(event, "\n".join(data), self.event_id or "") if data else None
