"""Which JSON-RPC calls are work, told from what the app has read of the body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.agent.rpc import HEAD, IDLE_METHODS, BodyPeek, is_json_type, is_work

IDLE = [
    *(name for name in IDLE_METHODS if not name.endswith("*")),
    "notifications/initialized",
    "notifications/cancelled",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "prompts/list",
    "prompts/get",
    "tasks/pushNotificationConfig/set",
]
WORK = [
    "tools/call",
    "message/send",
    "message/stream",
    "SendMessage",
    "SendStreamingMessage",
    "tasks/send",
    "tasks/getAll",
    "sampling/createMessage",
    "initialized",
    "pingpong",
    "Ping",
    "GetTasks",
    "tools/listen",
    "my/notifications/x",
    "",
]


def call(method: object, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, **more}


def encoded(value: object, **options: Any) -> bytes:
    return json.dumps(value, **options).encode()


@pytest.mark.parametrize("method", IDLE)
@pytest.mark.parametrize("indent", [None, 2])
def test_calls_that_ask_for_no_work(method: str, indent: int | None) -> None:
    assert not is_work(encoded(call(method), indent=indent))
    assert not is_work(encoded({"params": {"x": 1}, "method": method, "jsonrpc": "2.0"}))
    assert not is_work(encoded(call(method)).replace(b"/", b"\\/"))


@pytest.mark.parametrize("method", [*WORK, None, 7, ["ping"], {"ping": 1}])
def test_calls_that_ask_for_work(method: object) -> None:
    assert is_work(encoded(call(method)))
    assert is_work(encoded(call(method, params={"method": "ping", "jsonrpc": "2.0"})))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b'"jsonrpc"',
        encoded({"method": "ping"}),
        encoded({"method": "ping", "params": {"jsonrpc": "2.0"}}),
        encoded({"prompt": 'say {"jsonrpc": "2.0", "method": "ping"}'}),
        encoded({"body": {"jsonrpc": "2.0", "method": "ping"}}),
        encoded({"jsonrpc": "2.0", "id": 1, "result": {"method": "ping"}}),
        encoded(call("ping"))[:-1],
        encoded(call("ping")) + b"}",
        b"\xff" + encoded(call("ping")),
        b"[" * 5000 + encoded(call("ping")),
    ],
)
def test_whatever_else_comes_is_work(body: bytes) -> None:
    assert is_work(body)


def test_a_batch_is_work_when_any_of_it_is() -> None:
    assert not is_work(encoded([call("ping"), call("tools/list")]))
    assert is_work(encoded([call("ping"), call("tools/call")]))
    assert is_work(encoded([call("ping"), 7]))
    assert is_work(encoded([]))


@pytest.mark.parametrize("body", [None, "text", 7, [b"x"]])
def test_what_is_no_body_is_work(body: Any) -> None:
    assert is_work(body)
    assert BodyPeek().feed(body, False) is True


@given(st.binary())
def test_no_bytes_raise(noise: bytes) -> None:
    for body in (noise, b'{"jsonrpc":"2.0","method":"ping",' + noise):
        assert is_work(body) in {True, False}
        assert BodyPeek().feed(body, True) in {True, False, None}


# --- bodies in parts -------------------------------------------------------------------------


def test_the_first_part_decides_for_good() -> None:
    body = encoded(call("ping", params={"text": "x" * 100}))
    peek = BodyPeek()
    assert peek.feed(body[:60], True) is False
    assert peek.feed(b'"method": "tools/call"', True) is False
    assert peek.feed(b"", False) is False
    working = BodyPeek()
    assert working.feed(encoded(call("tools/call")), True) is True
    assert working.feed(encoded(call("ping")), False) is True


@pytest.mark.parametrize("size", [0, 1, 20, 30, 40])
def test_what_the_first_part_does_not_tell_is_work(size: int) -> None:
    body = encoded({"params": {"text": "x" * 100}, **call("ping")})
    peek = BodyPeek()
    assert peek.feed(body[:size], True) is (True if size else None)


def test_a_batch_in_parts_may_have_work_to_come() -> None:
    body = encoded([call("ping"), call("ping"), call("tools/call")])
    assert BodyPeek().feed(body[:80], True) is True


def test_an_empty_body_is_decided_when_it_is_over() -> None:
    peek = BodyPeek()
    assert peek.feed(b"", True) is None
    assert peek.feed(b"", False) is True


def test_every_cut_leads_to_work_or_to_the_right_answer() -> None:
    idle = encoded(call("resources/read", params={"uri": "file:///x"}))
    for place in range(1, len(idle)):
        assert BodyPeek().feed(idle[:place], True) is (b'"resources/read"' not in idle[:place])
    work = encoded({"jsonrpc": "2.0", "params": {"method": "ping"}, "method": "tools/call"})
    for place in range(1, len(work)):
        assert BodyPeek().feed(work[:place], True) is True


def test_nothing_is_looked_at_past_the_head() -> None:
    large = {"text": "x" * HEAD}
    assert not is_work(encoded(call("resources/read", params=large)))
    assert is_work(encoded({"params": large, **call("resources/read")}))
    assert is_work(encoded([call("ping"), call("ping", params=large)]))


# --- headers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"Application/JSON;charset=utf-8",
        b"application/a2a+json",
        b"application/vnd.api+json; v=1",
    ],
)
def test_json_is_announced(content_type: bytes) -> None:
    assert is_json_type(content_type)


@pytest.mark.parametrize(
    "content_type",
    [b"text/plain", b"application/jsonl", b"multipart/form-data; boundary=json", b""],
)
def test_json_is_not_announced(content_type: bytes) -> None:
    assert not is_json_type(content_type)
