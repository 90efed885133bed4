"""The task that a request carries, wherever its body or headers name it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.agent.correlation import (
    HEAD,
    HEADERS,
    TAIL,
    Task,
    TaskPeek,
    find_task,
    find_task_in_headers,
)

FIELDS = {"opscore_task_id": "step_1.2", "opscore_session_id": "s-1", "task_name": "Write"}
TASK = Task("step_1.2", "s-1", "Write")
FORWARDED = {
    "senderId": "opscore_system_id",
    "timestamp": "2026-11-22T14:44:19.999885Z",
    "messageType": "workflow_task",
    "payload": {"p": 1},
    "sessionContext": {"sessionId": "sess-1", "priorMessages": []},
}


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def feed(*parts: bytes) -> Task | None:
    peek = TaskPeek()
    for part in parts[:-1]:
        assert peek.feed(part, True) is None
    return peek.feed(parts[-1], False)


def test_the_task_that_agentkit_forwards_is_found() -> None:
    assert find_task(encoded({**FORWARDED, **FIELDS})) == TASK
    assert find_task(encoded({**FIELDS, **FORWARDED})) == TASK
    assert TASK.details() == FIELDS


def test_an_id_alone_is_a_task_and_a_session_alone_is_none() -> None:
    assert find_task(b'{"opscore_task_id": "t"}') == Task("t")
    assert Task("t").details() == {"opscore_task_id": "t"}
    assert find_task(b'{"opscore_session_id": "s", "task_name": "n"}') is None
    assert find_task(encoded(FORWARDED)) is None


@pytest.mark.parametrize(
    "body",
    [
        {"params": FIELDS},
        {"params": {"message": {"metadata": FIELDS, "parts": []}}},
        {"payload": FIELDS},
        {"metadata": FIELDS},
        {"messages": [{"role": "user"}, FIELDS]},
        [[], FIELDS],
        {"opscore_task_id": None, "payload": FIELDS},
        {"opscore_task_id": 7, "payload": FIELDS},
    ],
)
def test_a_task_is_found_below_the_top(body: object) -> None:
    assert find_task(encoded(body)) == TASK


def test_the_shallowest_task_is_taken_and_whole() -> None:
    inner = {"opscore_task_id": "inner", "opscore_session_id": "other", "task_name": "x"}
    assert find_task(encoded({"payload": inner, "opscore_task_id": "outer"})) == Task("outer")
    assert find_task(encoded({"a": {"b": [inner]}, "c": [FIELDS]})) == TASK


@pytest.mark.parametrize(
    "value", [None, 7, True, [], {}, "", "x" * 201, "a\nb", "a\0", "\x7f", "\x85", "a\ud800"]
)
def test_unfit_ids_and_names_are_ignored(value: object) -> None:
    assert find_task(encoded({"opscore_task_id": value})) is None
    said = {"opscore_task_id": "t", "opscore_session_id": value, "task_name": value}
    assert find_task(encoded(said)) == Task("t")


def test_ids_may_have_any_script_and_200_characters() -> None:
    for fit in ("x" * 200, "Überprüfung 検査 🖨", 'with "quotes" \\ and /'):
        for text in (
            encoded({"opscore_task_id": fit}),
            encoded(["\ud800", {"opscore_task_id": fit}]),
        ):
            assert find_task(text) == Task(fit)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"opscore_task_id",
        b"{}",
        b'{"text": "opscore_task_id"}',
        b'["opscore_task_id"]',
        encoded({"text": encoded(FIELDS).decode()}),
        b'{"opscore_task_id": ',
        b'{"opscore_task_id": "t',
        b"[" * 9000 + b"opscore_task_id",
    ],
)
def test_what_names_no_task_is_none(body: bytes) -> None:
    assert find_task(body) is None
    assert feed(body) is None
    assert feed(b"", body, b"") is None


def test_a_body_that_is_no_strict_json_still_names_its_task() -> None:
    body = b'{"text": "half \\ud83d", "opscore_task_id": "t.1", "task_name": "n"}'
    assert find_task(body) == Task("t.1", None, "n")


# --- large bodies ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, HEAD, HEAD + TAIL, HEAD + TAIL + 1, 4 * HEAD])
def test_a_task_is_found_at_either_end(size: int) -> None:
    payload = {"payload": "x" * size}
    first, last = encoded({**FIELDS, **payload}), encoded({**payload, **FIELDS})
    for body in (first, last):
        assert find_task(body) == TASK
        assert feed(body) == TASK
        assert feed(body[:50], body[50:-9], body[-9:], b"") == TASK


def test_a_task_in_the_middle_of_a_large_body_is_not_looked_for() -> None:
    pad = "x" * (HEAD + TAIL)
    body = encoded({"before": pad, **FIELDS, "after": pad})
    assert find_task(body) is None
    assert feed(body[:9], body[9:]) is None


def test_the_end_of_a_large_body_goes_before_what_is_nested_at_its_start() -> None:
    inner = {"opscore_task_id": "inner"}
    pad = "x" * (HEAD + TAIL)
    assert find_task(encoded({"history": [inner], "pad": pad, **FIELDS})) == TASK
    assert find_task(encoded({**FIELDS, "pad": pad, "history": [inner]})) == TASK
    assert find_task(encoded({"history": [inner], "pad": pad})) == Task("inner")
    assert find_task(encoded({"pad": pad, "history": [inner], **FIELDS})) == TASK


def test_a_body_with_more_objects_than_are_looked_through_costs_little() -> None:
    assert find_task(encoded([[[]] * 9000, FIELDS])) == TASK
    assert find_task(encoded([[{}] * 5000, [[FIELDS]]])) is None


@given(
    st.sampled_from([40, HEAD - 60, HEAD, HEAD + TAIL - 40, HEAD + TAIL, 2 * HEAD]),
    st.sampled_from(["first", "last", "nested", "none"]),
    st.lists(st.integers(0), max_size=6),
)
def test_the_way_a_body_is_cut_changes_nothing(size: int, where: str, places: list[int]) -> None:
    pad = {"payload": "x" * size}
    body = encoded(
        {
            "first": {**FIELDS, **pad},
            "last": {**pad, **FIELDS},
            "nested": {"a": FIELDS, **pad},
            "none": pad,
        }[where]
    )
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    assert feed(*(body[start:end] for start, end in pairwise(edges))) == find_task(body)


def test_a_long_upload_takes_little_memory() -> None:
    peek = TaskPeek()
    for _ in range(10_000):
        peek.feed(b"x" * 1024, True)
    assert len(peek._head) + len(peek._tail) == HEAD + TAIL
    assert peek.feed(encoded(FIELDS), False) == TASK


def test_what_came_so_far_can_be_asked() -> None:
    peek = TaskPeek()
    assert peek.task() is None
    peek.feed(encoded({**FIELDS, "payload": "x" * 500})[:300], True)
    assert peek.task() == TASK


@pytest.mark.parametrize("body", [None, "opscore_task_id", 7, [b"x"]])
def test_what_is_no_body_names_no_task(body: Any) -> None:
    assert find_task(body) is None
    peek = TaskPeek()
    assert peek.feed(body, True) is None
    assert peek.feed(body, False) is None
    assert peek.task() is None


@given(st.binary())
def test_no_bytes_raise(noise: bytes) -> None:
    for body in (noise, b'{"opscore_task_id": "' + noise, b'{"opscore_task_id":' + noise + b"}"):
        found = find_task(body)
        assert found is None or found.task_id
        assert feed(body[:9], body[9:]) == found


# --- headers ---------------------------------------------------------------------------------


def headers(*values: bytes) -> list[tuple[bytes, bytes]]:
    names = (name.lower().encode() for name in HEADERS)
    return [(b"host", b"x"), *zip(names, values, strict=False)]


def test_a_task_is_found_in_headers() -> None:
    assert find_task_in_headers(headers(b"step_1.2", b"s-1", b"Write")) == TASK
    assert find_task_in_headers(tuple(headers(b"step_1.2", b"s-1", b"Write"))) == TASK
    assert find_task_in_headers(headers(b" t ")) == Task("t")
    assert find_task_in_headers(headers("Prüfung".encode())) == Task("Prüfung")
    assert find_task_in_headers(headers(b"t", b"\xff", b"x" * 201)) == Task("t")


@pytest.mark.parametrize(
    "said",
    [
        headers(),
        headers(b""),
        headers(b"\xff"),
        headers(b"x" * 201),
        headers(b"", b"s", b"n"),
        [(b"x-opscore-session-id", b"s")],
        [(b"x-opscore-task-id", None)],
        [(b"x-opscore-task-id", "t")],
        [None],
        None,
        {b"x-opscore-task-id": b"t"},
    ],
)
def test_headers_that_name_no_task(said: Any) -> None:
    assert find_task_in_headers(said) is None
