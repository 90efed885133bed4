"""Reads responses as they are sent, for failures inside a 200: never ahead, never delaying."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from pydantic_core import from_json

from opscore_middleware.agent.envelopes import Detector, find_event_failure, find_failure
from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.rpc import is_json_type
from opscore_middleware.agent.signs import TOKENS

__all__ = [
    "EventScanner",
    "JsonScanner",
    "LineScanner",
    "is_event_stream",
    "is_inconspicuous",
    "scanner_for",
]

LIMIT: Final = 64 * 1024
"""Bytes that are kept of a JSON response, or of one event."""

_ONE, _TWO, _THREE = TOKENS  # by name, since a loop over them would take as long as the search
_BOM: Final = b"\xef\xbb\xbf"
_NO_JSON: Final = object()


def scanner_for(
    headers: object, detectors: Sequence[Detector] = ()
) -> JsonScanner | EventScanner | None:
    """Return what reads a response with these headers; None when it cannot be read. Never raises.

    Args:
        headers: as the response's start has them. Only a list or a tuple is looked at: anything
            else may be a stream that the server still has to read.
        detectors: the integrator's own signs.
    """
    if not isinstance(headers, list | tuple):
        return None
    try:
        said = dict(headers)
        if not b"".join(said).islower():
            said = {name.lower(): value for name, value in headers}
        kind = _kind(said.get(b"content-type", b""))
        encoding = said.get(b"content-encoding")
        length = int(said.get(b"content-length", 0))
    except Exception:
        return None  # not headers, whatever they are: the server will see to them
    if kind is None or (encoding is not None and encoding.strip().lower() != b"identity"):
        return None
    # Streams announce no length. What does is sent in one piece, which would be read in one go.
    if length > LIMIT:
        return JsonScanner(size=length) if kind is JsonScanner else None
    return kind(detectors)


def is_event_stream(headers: object) -> bool:
    """Tell whether a response's headers announce server-sent events. Never raises."""
    if isinstance(headers, list | tuple):
        try:
            for name, value in headers:
                if len(name) == 12 and name.lower() == b"content-type":
                    return _kind(value) is EventScanner
        except Exception:
            return False
    return False


def is_inconspicuous(text: bytes) -> bool:
    """Tell whether a text of usual size bears no sign of a failure. Never raises."""
    if text.__class__ is not bytes or len(text) > LIMIT:
        return False
    lower = str(text, "latin-1").lower()
    return not (_ONE in lower or _TWO in lower or _THREE in lower)


def _kind(content_type: bytes) -> type[JsonScanner | EventScanner] | None:
    if content_type == b"application/json":
        return JsonScanner
    media = content_type.partition(b";")[0].strip().lower()
    known = _KINDS.get(media)
    if known is None and is_json_type(media):
        return JsonScanner
    return known


class JsonScanner:
    """Reads one JSON body of at most 64 KiB; of one that is announced to be longer, nothing."""

    __slots__ = ("_chunks", "_detectors", "_size")

    def __init__(self, detectors: Sequence[Detector] = (), *, size: int = 0) -> None:
        self._detectors = detectors
        self._chunks: list[bytes] = []
        self._size = size

    @property
    def is_too_long(self) -> bool:
        """Whether the body is longer than what is read of one."""
        return self._size > LIMIT

    def feed(self, chunk: bytes) -> None:
        """Take a part of the body as it is sent. Never raises."""
        if chunk.__class__ is not bytes:
            chunk = _copied(chunk)
        self._size += len(chunk)
        if self._size <= LIMIT:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def body(self) -> bytes | None:
        """Return the body as far as it came, None where it was too long."""
        return b"".join(self._chunks) if self._size <= LIMIT else None

    def failure(self) -> Failure | None:
        """Return the failure that the body reports, as far as it came. Never raises."""
        body = b"".join(self._chunks)
        if not self._detectors and is_inconspicuous(body):
            return None
        value = _parsed(body)
        return None if value is _NO_JSON else find_failure(value, self._detectors)


class EventScanner:
    """Reads a stream of server-sent events; one of more than 64 KiB is passed over."""

    __slots__ = ("_before", "_detectors", "_failure", "_held", "_skipping")

    _ends: ClassVar[tuple[bytes, ...]] = (b"\n\n", b"\n\r", b"\r\r")
    """What ends an event: the end of its last line, then that of the empty one. CR LF is one."""
    _end: ClassVar[re.Pattern[bytes]] = re.compile(rb"\n[\n\r]|\r\r")
    _closed: ClassVar[tuple[bytes, ...]] = (b"\n\n", b"\n\r\n", b"\r\r", b"\n\r")
    """How a chunk ends that leaves nothing open."""

    def __init__(self, detectors: Sequence[Detector] = ()) -> None:
        self._detectors = detectors
        self._held = bytearray()
        self._before = b""  # the last byte so far, while an event is open
        self._skipping = False
        self._failure: Failure | None = None

    def feed(self, chunk: bytes) -> None:
        """Take a part of the stream as it is sent. Never raises."""
        try:
            if chunk.__class__ is not bytes:
                chunk = _copied(chunk)
            if len(chunk) > LIMIT:
                for start in range(0, len(chunk), LIMIT):
                    self.feed(chunk[start : start + LIMIT])
                return
            # Nearly every chunk is whole events without a failure. As str it is searched in half
            # the time that bytes take.
            if not self._before and not self._detectors and chunk.endswith(self._closed):
                text = str(chunk, "latin-1").lower()
                if not (_ONE in text or _TWO in text or _THREE in text):
                    return
            if self._failure is None:
                self._take(chunk)
        except Exception:
            self._held.clear()  # no chunk that an app may send; the server will see to it

    def failure(self) -> Failure | None:
        """Return the first failure that the stream reported so far. Never raises."""
        if self._failure is None and self._held:
            # Many servers leave out the empty line after the last event.
            return self._read(bytes(self._held))
        return self._failure

    def _take(self, chunk: bytes) -> None:
        if self._before:
            chunk = self._close(chunk)
        chunk = chunk.lstrip(b"\r\n")
        if not chunk:
            return
        end = max(map(chunk.rfind, self._ends)) + 1
        if end:
            self._read_all(chunk[: end - 1])
            chunk = chunk[end:].lstrip(b"\r\n")
        if chunk:
            self._hold(chunk)

    def _close(self, chunk: bytes) -> bytes:
        """End the open event with the beginning of a chunk; return the rest of that."""
        end = self._end.search(self._before + chunk)
        if end is None:
            self._hold(chunk)
            return b""
        # Its first byte is the event's last; in the chunk that is one place to the left.
        rest = chunk[end.start() :]
        if not self._skipping and len(self._held) + end.start() <= LIMIT:
            self._held += chunk[: end.start()]
            self._read_all(bytes(self._held[:-1]))
        self._held.clear()
        self._before = b""
        self._skipping = False
        return rest

    def _hold(self, chunk: bytes) -> None:
        """Keep what is left open, unless it is too much."""
        self._before = chunk[-1:] or self._before
        if self._skipping or len(self._held) + len(chunk) > LIMIT:
            self._skipping = True
            self._held.clear()
        else:
            self._held += chunk

    def _read_all(self, events: bytes) -> None:
        """Look for the first failure in whole events; the last one's final byte is cut off."""
        if not self._detectors and is_inconspicuous(events):
            return
        for event in self._end.split(events):
            event = event.lstrip(b"\r\n")
            if len(event) < LIMIT and self._failure is None:
                self._failure = self._read(event)

    def _read(self, event: bytes) -> Failure | None:
        if not self._detectors and is_inconspicuous(event):
            return None
        name = None
        data = []
        for line in event.removeprefix(_BOM).splitlines():
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ").decode("utf-8", "replace")
        return _in_event(name, b"\n".join(data), self._detectors)


class LineScanner(EventScanner):
    """Reads a stream of JSON lines, each taken for the data of an event."""

    __slots__ = ()

    _ends = (b"\n",)
    _end = re.compile(rb"\n")
    _closed = _ends

    def _read(self, event: bytes) -> Failure | None:
        if not self._detectors and is_inconspicuous(event):
            return None
        return _in_event(None, event, self._detectors)


def _copied(chunk: Any) -> bytes:
    """Return a part that is no bytes as such: a buffer is the app's again once it is sent."""
    try:
        return bytes(memoryview(chunk))
    except (TypeError, ValueError, BufferError):
        return b""  # no chunk that an app may send; the server will see to it


def _in_event(name: str | None, raw: bytes, detectors: Sequence[Detector]) -> Failure | None:
    value = _parsed(raw) if raw else _NO_JSON
    if value is not _NO_JSON:
        return find_event_failure(name, value, raw, detectors)
    return find_event_failure(name, None, raw) if name else None


def _parsed(text: bytes) -> object:
    try:
        return from_json(text)
    except ValueError:
        pass
    if b"\\ud" not in text and b"\\uD" not in text:
        return _NO_JSON
    try:
        return json.loads(text)  # takes half a surrogate pair, which a cut message may end in
    except (ValueError, RecursionError):
        return _NO_JSON


_KINDS: Final[dict[bytes, type[JsonScanner | EventScanner]]] = {
    b"text/event-stream": EventScanner,
    b"application/x-ndjson": LineScanner,
    b"application/ndjson": LineScanner,
    b"application/jsonl": LineScanner,
}
