"""Responses read as they are sent: same answer however they are cut, and never in the way."""

from __future__ import annotations

import json
import sys
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opscore_middleware.agent.envelopes import Detector, find_event_failure
from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.scan import (
    LIMIT,
    EventScanner,
    JsonScanner,
    LineScanner,
    is_event_stream,
    scanner_for,
)

BOM = b"\xef\xbb\xbf"
OUT_OF_INK = Failure("Event error", "no ink")
FAILING = b'data: {"error": "no ink"}'


def read(scanner: JsonScanner | EventScanner, *chunks: bytes) -> Failure | None:
    for chunk in chunks:
        scanner.feed(chunk)
    return scanner.failure()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def held(scanner: object) -> int:
    """Return the bytes that a scanner keeps."""
    return sum(
        sys.getsizeof(value) if not isinstance(value, list) else sum(map(sys.getsizeof, value))
        for name in ("_held", "_before", "_chunks")
        if (value := getattr(scanner, name, None)) is not None
    )


# --- which responses are read ----------------------------------------------------------------


def content(value: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"server", b"x"), (b"content-type", value), *more]


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        (content(b"application/json"), JsonScanner),
        (content(b"application/json; charset=utf-8"), JsonScanner),
        (content(b"Application/JSON"), JsonScanner),
        (content(b"application/a2a+json"), JsonScanner),
        (content(b"application/problem+json;v=1"), JsonScanner),
        (content(b"text/event-stream"), EventScanner),
        (content(b"text/event-stream; charset=utf-8"), EventScanner),
        (content(b"application/x-ndjson"), LineScanner),
        (content(b"application/ndjson; charset=utf-8"), LineScanner),
        (content(b"application/jsonl"), LineScanner),
        ([(b"Content-Type", b"text/event-stream")], EventScanner),
        (((b"content-type", b"text/event-stream"),), EventScanner),
        ([[b"content-type", b"text/event-stream"]], EventScanner),
        (content(b"application/json", (b"content-encoding", b"identity")), JsonScanner),
        (content(b"application/json", (b"content-length", b"65536")), JsonScanner),
        (content(b"text/event-stream", (b"content-length", b"65536")), EventScanner),
        (content(b"application/json", (b"content-length", b"65537")), JsonScanner),
        (content(b"text/event-stream", (b"content-length", b"65537")), None),
        (content(b"application/x-ndjson", (b"content-length", b"65537")), None),
        (content(b"application/json", (b"Content-Encoding", b"gzip")), None),
        (content(b"text/event-stream", (b"content-encoding", b"br")), None),
        (content(b"text/html"), None),
        (content(b"text/plain"), None),
        (content(b""), None),
        ([], None),
        ((), None),
        (None, None),
        ({b"content-type": b"application/json"}, None),
        ([None], None),
        ([(b"content-type",)], None),
        ([(b"content-type", None)], None),
        ([("content-type", "application/json")], None),
        (content(b"application/json", (b"content-length", b"many")), None),
    ],
)
def test_responses_are_read_by_what_they_announce(headers: Any, kind: type | None) -> None:
    assert type(scanner_for(headers)) is (kind or type(None))
    if kind is not None:
        assert is_event_stream(headers) is (kind is EventScanner)


@pytest.mark.parametrize("headers", [None, [], [None], [(b"content-type", None)], {}, "text"])
def test_what_announces_no_event_stream_is_none(headers: Any) -> None:
    assert not is_event_stream(headers)


def test_a_compressed_event_stream_is_one_though_it_cannot_be_read() -> None:
    headers = content(b"text/event-stream", (b"content-encoding", b"gzip"))
    assert is_event_stream(headers)
    assert scanner_for(headers) is None


def test_headers_that_can_be_read_once_are_left_to_the_server() -> None:
    headers = iter(content(b"text/event-stream"))
    assert scanner_for(headers) is None
    assert not is_event_stream(headers)
    assert len(list(headers)) == 2


# --- JSON ------------------------------------------------------------------------------------

FAILED_CALL = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no ink"}}
CALL_FAILED = Failure("JSON-RPC -32603", "no ink")


@given(st.lists(st.integers(0, 200), max_size=8), st.sampled_from([None, 1, 4]))
def test_a_json_failure_is_found_however_it_is_sent(places: list[int], indent: int | None) -> None:
    body = json.dumps(FAILED_CALL, indent=indent).encode()
    assert read(JsonScanner(), *cut(body, places)) == CALL_FAILED


def test_a_json_body_of_the_largest_size_is_read_and_a_larger_one_is_not() -> None:
    body = json.dumps(FAILED_CALL).encode()
    assert read(JsonScanner(), body.ljust(LIMIT)) == CALL_FAILED
    assert read(JsonScanner(), body, b" " * (LIMIT - len(body))) == CALL_FAILED
    assert read(JsonScanner(), body.ljust(LIMIT + 1)) is None
    assert read(JsonScanner(), body, b" " * (LIMIT - len(body)), b" ") is None


def test_a_large_json_body_takes_no_memory() -> None:
    scanner = JsonScanner()
    for _ in range(10_000):
        scanner.feed(b"x" * 1024)
    assert held(scanner) < 1024
    assert scanner.failure() is None


def test_an_unfinished_body_is_no_failure_until_it_is_whole() -> None:
    body = json.dumps(FAILED_CALL).encode()
    scanner = JsonScanner()
    assert scanner.failure() is None
    assert read(scanner, body[:-1]) is None
    assert read(scanner, body[-1:]) == CALL_FAILED


@given(st.binary() | st.just(b"[" * LIMIT) | st.just(b'{"error":' * 7000))
def test_no_bytes_make_a_scanner_raise(body: bytes) -> None:
    for scanner in (JsonScanner(), EventScanner(), LineScanner()):
        read(scanner, body, body)
        read(scanner, b'\n\nevent: error\ndata: "', body, b"\n\n")
    read(JsonScanner([Detector(lambda _: None)]), body)
    read(EventScanner([Detector(lambda _: None)]), b"data: ", body, b"\n\n")


@pytest.mark.parametrize("chunk", [None, "text", 7, [b"x"]])
def test_what_is_no_chunk_is_left_to_the_server(chunk: Any) -> None:
    for scanner in (JsonScanner(), EventScanner(), LineScanner()):
        assert read(scanner, chunk, chunk) is None


def test_chunks_may_be_any_kind_of_bytes() -> None:
    body = json.dumps(FAILED_CALL).encode()
    assert read(JsonScanner(), bytearray(body[:9]), memoryview(body[9:])) == CALL_FAILED
    event = b"data: " + body + b"\n\n"
    assert read(EventScanner(), bytearray(event[:9]), memoryview(event[9:])) == CALL_FAILED


@pytest.mark.parametrize("scanner", [JsonScanner, EventScanner, LineScanner])
def test_a_buffer_is_the_apps_again_once_it_is_sent(scanner: Any) -> None:
    buffer = bytearray(b'{"error": 1')
    reads = scanner()
    reads.feed(memoryview(buffer)[:9])
    reads.feed(buffer)
    buffer += b"more"  # fails while somebody holds on to it
    buffer[:] = b"else"
    if scanner is JsonScanner:
        assert reads.body() == b'{"error":{"error": 1'


def test_a_message_cut_inside_a_character_is_told() -> None:
    body = b'{"jsonrpc":"2.0","error":{"code":-32603,"message":"no ink \\ud83d"}}'
    found = read(JsonScanner(), body)
    assert found is not None
    assert found.message == "no ink ?"


# --- events ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    "lines",
    [
        [b'data: {"error": "no ink"}'],
        [b'data:{"error": "no ink"}'],
        [b": a comment", b'data: {"error": "no ink"}', b"id: 7"],
        [b"event: error", b'data: {"message": "no ink"}'],
        [b'data: {"message": "no ink"}', b"event: error"],
        [b"event:error", b'data: {"message":', b'data: "no ink"}', b"retry: 5"],
        [b"data: {", b'data: "error":', b'data: "no ink"', b"data: }"],
        [b"event: error", b"data: no ink"],
        [b"event: message", b"event: error", b'data: {"message": "no ink"}'],
    ],
)
def test_an_events_failure_is_found_however_it_is_cut(lines: list[bytes], end: bytes) -> None:
    event = end.join(lines) + end
    calm = b'data: {"delta": "an error, it failed"}' + end * 2
    for stream in (
        event + end,
        event,
        calm + event + end + calm,
        end * 3 + event + end,
        BOM + event + end,
        BOM + calm + end + event,
    ):
        assert read(EventScanner(), stream) == OUT_OF_INK
        assert read(EventScanner(), *(stream[n : n + 1] for n in range(len(stream)))) == OUT_OF_INK
        for place in range(len(stream)):
            assert read(EventScanner(), *cut(stream, [place])) == OUT_OF_INK


@pytest.mark.parametrize(
    "stream",
    [
        b': event: error\n\ndata: {"delta": "x"}\n\n',
        b': {"error": "no ink"}\n\n',
        b'id: {"error": "no ink"}\n\n',
        b'datum: {"error": "no ink"}\n\n',
        b'data {"error": "no ink"}\n\n',
        b'data: {"error":\n\ndata: "no ink"}\n\n',
        b"data: error: no ink\n\n",
        b"data: [DONE]\n\n",
        b"event: done\ndata: failed\n\n",
        b"event:  error\ndata: x\n\n",
        b"data: event: error\n\n",
        b'data: {"jsonrpc": "2.0", "error": {"code": -32602, "message": "no ink"}}\n\n',
    ],
)
def test_a_calm_stream_is_no_failure(stream: bytes) -> None:
    assert read(EventScanner(), stream) is None
    assert read(EventScanner(), *(stream[n : n + 1] for n in range(len(stream)))) is None


# fmt: off
PIECES = st.sampled_from([
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"data: ", b"data:", b"event: error", b"event:",
    b'{"error": "no ink"}', b'{"error":', b'"no paper"}', b": error", b"x", b"error", BOM,
    FAILING + b"\n\n", b'data: {"delta": "fine"}\n\n', b"x" * (LIMIT - 2), b"x" * LIMIT,
])
# fmt: on


def read_by_lines(stream: bytes) -> Failure | None:
    """Read a stream line by line, as the standard has it."""
    name, data, size = None, list[bytes](), 0
    for line in [*stream.splitlines(), b""]:
        field, _, value = line.partition(b":")
        size += len(line) + 1
        if not line:
            raw = b"\n".join(data)
            try:
                parsed = json.loads(raw)
            except ValueError:
                parsed = None
            found = find_event_failure(name, parsed, raw)
            if found is not None and size <= LIMIT:
                return found
            name, data, size = None, [], 0
        elif field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode(errors="replace")
    return None


@given(st.lists(PIECES.filter(lambda piece: piece != BOM and len(piece) < 99), max_size=14))
def test_streams_are_read_as_the_standard_says(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    assert read(EventScanner(), stream) == read_by_lines(stream)


@given(st.lists(PIECES, max_size=14).map(b"".join), st.lists(st.integers(0), max_size=12))
@example(b"event: error\r\n\r\n", [15])
@example(b"x" * LIMIT + b"\n\n" + FAILING, [LIMIT])
@example(b"event: error\n" + b"x" * (LIMIT - 14) + b"\n\n", [LIMIT])
def test_the_way_a_stream_is_cut_changes_nothing(stream: bytes, places: list[int]) -> None:
    for kind in (EventScanner, LineScanner):
        assert read(kind(), *cut(stream, places)) == read(kind(), stream)


def test_the_first_failure_stands() -> None:
    scanner = EventScanner()
    assert read(scanner, FAILING + b'\n\ndata: {"error": "no paper"}\n\n') == OUT_OF_INK
    assert read(scanner, b'data: {"error": "no paper"}\n\n', b'data: {"ok"') == OUT_OF_INK


def test_asking_early_changes_nothing() -> None:
    scanner = EventScanner()
    asked = [read(scanner, (FAILING + b"\n\n")[n : n + 1]) for n in range(len(FAILING) + 2)]
    assert asked == [None] * (len(FAILING) - 1) + [OUT_OF_INK] * 3


@pytest.mark.parametrize("size", [1, 100, 4096, 1 << 20])
def test_an_event_that_is_too_large_is_passed_over(size: int) -> None:
    large = b"event: error\ndata: " + b"x" * (2 * LIMIT) + b"\n\n"
    stream = large + FAILING + b"\n\n"
    chunks = [stream[n : n + size] for n in range(0, len(stream), size)]
    assert read(EventScanner(), *chunks) == OUT_OF_INK
    assert read(EventScanner(), large) is None


def test_an_event_of_the_largest_size_is_read() -> None:
    event = FAILING[:-1].ljust(LIMIT - 2) + b"}\n"
    assert len(event) == LIMIT
    for chunks in ([event + b"\n"], [event, b"\n"], [event[:9], event[9:], b"\n"], [event]):
        assert read(EventScanner(), *chunks) == OUT_OF_INK
    larger = event[:-2] + b" }\n"
    for chunks in ([larger + b"\n"], [larger, b"\n"], [larger[:9], larger[9:], b"\n"], [larger]):
        assert read(EventScanner(), *chunks) is None


@pytest.mark.parametrize("chunk", [b"x" * 1024, b"data: x\n", b"\r", b"data: error\n\n", b": x\n"])
def test_a_stream_without_end_takes_little_memory(chunk: bytes) -> None:
    for scanner in (EventScanner(), LineScanner()):
        for _ in range(10_000):
            scanner.feed(chunk)
            assert held(scanner) < LIMIT * 1.2 + 300


@pytest.mark.parametrize("scanner", [EventScanner, LineScanner])
def test_a_large_chunk_takes_little_memory(scanner: Any) -> None:
    chunk = b'data: {"error": null}\n\n' * 200_000
    tracemalloc.start()
    try:
        scanner().feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * LIMIT < len(chunk)


def test_lines_of_json_are_read_as_they_come() -> None:
    stream = b'{"delta": "error"}\r\n\n{"type": "RUN_ERROR", "message": "no ink"}\n{"error": 1}'
    found = Failure("AG-UI RUN_ERROR", "no ink")
    assert read(LineScanner(), stream) == found
    for place in range(len(stream)):
        assert read(LineScanner(), *cut(stream, [place])) == found
    assert read(LineScanner(), b'{"error": "no ink"}') == OUT_OF_INK


# --- the integrator's own signs --------------------------------------------------------------


def test_detectors_see_every_body_and_event() -> None:
    seen: list[object] = []

    def note(value: object) -> str | None:
        seen.append(value)
        return "seen" if value == {"ink": 0} else None

    detectors = [Detector(note)]
    found = Failure("Failure", "seen")
    json_scanner = scanner_for(content(b"application/json"), detectors)
    assert json_scanner is not None
    assert read(json_scanner, b'{"ink"', b": 0}") == found
    events = scanner_for(content(b"text/event-stream"), detectors)
    assert events is not None
    assert read(events, b'data: {"ink": 1}\n\ndata: [DONE]\n\n', b'data: {"ink": 0}\n\n') == found
    lines = scanner_for(content(b"application/jsonl"), detectors)
    assert lines is not None
    assert read(lines, b'{"ink": 2}\n{"ink"', b": 0}\n") == found
    assert seen == [{"ink": 0}, {"ink": 1}, {"ink": 0}, {"ink": 2}, {"ink": 0}]
