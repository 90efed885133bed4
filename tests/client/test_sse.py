"""Streams of events, written and read."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.protocol import sse
from opscore_middleware.protocol.sse import Message, Reader

STREAM = (
    b"retry: 1500\nid: 41\n\n"
    + sse.block("transition", event_id=42, data='{"name":"größe"}'.encode())
    + sse.HEARTBEAT
    + sse.block(event_id=43)
    + b"event: two\r\ndata: a\r\ndata:  b\r\n\r\n"
    + b"data: without a kind\n\n"
)
MESSAGES = [
    Message("transition", '{"name":"größe"}', "42"),
    Message("two", "a\n b", "43"),
    Message("message", "without a kind", "43"),
]


def read(*pieces: bytes) -> tuple[list[Message], Reader]:
    """Return the messages of a stream that comes in these pieces, and its reader."""
    reader = Reader()
    return [message for piece in pieces for message in reader.feed(piece)], reader


@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_a_stream_reads_the_same_wherever_it_is_cut(cuts: list[int]) -> None:
    edges = [0, *cuts, len(STREAM)]
    messages, reader = read(*(STREAM[a:b] for a, b in pairwise(edges)))
    assert messages == MESSAGES
    assert (reader.event_id, reader.retry) == ("43", 1.5)


@given(st.integers(0, len(STREAM)))
def test_a_message_that_is_cut_off_has_not_been_seen(cut: int) -> None:
    messages, reader = read(STREAM[:cut])
    assert messages == MESSAGES[: len(messages)]
    if not messages:
        assert reader.event_id in (None, "41")


def test_what_has_no_data_is_no_message() -> None:
    messages, reader = read(sse.HEARTBEAT + b"\n", b"event: empty\n\n", sse.block(event_id=5))
    assert messages == []
    assert reader.event_id == "5"


def test_fields_that_mean_nothing_are_passed_over() -> None:
    messages, reader = read(b"retry: soon\nid: a\0b\nname\nx: y\ndata: 1\n\n")
    assert messages == [Message("message", "1", "")]
    assert reader.retry is None
