"""What looking at bodies costs: microseconds a call, beside `json.loads` of the same body.

Each figure is the best of many rounds, so that a busy machine adds little to it.
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable
from typing import Any

from opscore_middleware.agent.correlation import TaskPeek, find_task, find_task_in_headers
from opscore_middleware.agent.rpc import BodyPeek, is_json_type, is_work
from opscore_middleware.agent.scan import EventScanner, JsonScanner, is_event_stream, scanner_for

ROUNDS = 15

REQUEST_HEADERS = [
    (b"host", b"agent.example:8000"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"content-length", b"1024"),
    (b"content-type", b"application/json"),
]
JSON_HEADERS = [(b"content-length", b"1024"), (b"content-type", b"application/json")]
EVENT_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
]


def prose(size: int) -> str:
    return ("The quick brown fox jumps over the lazy dog. " * (size // 45 + 1))[:size]


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def rpc(method: str, size: int) -> bytes:
    """Return a JSON-RPC call of about `size` bytes."""
    part = {"kind": "text", "text": prose(max(0, size - 160))}
    message = {"role": "user", "messageId": "0f2b6c3e", "parts": [part]}
    return encoded({"jsonrpc": "2.0", "id": 7, "method": method, "params": {"message": message}})


def run_request(size: int, **fields: str) -> bytes:
    """Return a request of about `size` bytes as AgentKit forwards it."""
    return encoded(
        {
            "senderId": "opscore_system_id",
            "messageType": "workflow_task",
            "payload": {"text": prose(max(0, size - 160))},
            "sessionContext": {"sessionId": "s-1", "priorMessages": []},
            **fields,
        }
    )


def event(data: object) -> bytes:
    return b"data: " + encoded(data) + b"\n\n"


DELTA = event({"type": "TEXT_MESSAGE_CONTENT", "messageId": "0f2b6c3e-1c55", "delta": " quick"})
TOKEN = event(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "small",
        "choices": [{"index": 0, "delta": {"content": " quick"}, "finish_reason": None}],
    }
)
MENTION = event({"type": "TEXT_MESSAGE_CONTENT", "messageId": "0f2b6c3e", "delta": " error"})
FAILING = event({"type": "RUN_ERROR", "message": "no ink"})


def read_json(body: bytes) -> Callable[[], object]:
    def read() -> object:
        scanner = JsonScanner()
        scanner.feed(body)
        return scanner.failure()

    return read


def peek(body: bytes) -> Callable[[], object]:
    return lambda: BodyPeek().feed(body, False)


def peek_in_parts(body: bytes) -> Callable[[], object]:
    middle = len(body) // 2

    def read() -> object:
        task = TaskPeek()
        task.feed(body[:middle], True)
        return task.feed(body[middle:], False)

    return read


def feed_in_halves(chunk: bytes) -> Callable[[], object]:
    scanner = EventScanner()
    middle = len(chunk) // 2
    first, second = chunk[:middle], chunk[middle:]

    def read() -> None:
        scanner.feed(first)
        scanner.feed(second)

    return read


def microseconds(call: Callable[[], object]) -> float:
    number = max(1, int(0.004 / max(timeit.timeit(call, number=5) / 5, 1e-8)))
    return min(timeit.repeat(call, number=number, repeat=ROUNDS)) / number * 1e6


def show(title: str, rows: list[tuple[str, Callable[[], Any], bytes | None]]) -> None:
    """Print one table: what it costs, and what parsing the same bytes would."""
    idle = microseconds(lambda: None)
    print(f"\n{title}  (microseconds, best of {ROUNDS} rounds)")
    for name, call, body in rows:
        line = f"  {name:52} {microseconds(call) - idle:8.2f}"
        if body is not None:
            text = body.removeprefix(b"data: ")
            loads = microseconds(lambda text=text: json.loads(text)) - idle
            line += f"   json.loads {loads:8.2f}   {len(body):6} bytes"
        print(line)


def main() -> None:
    calls = {size: rpc("message/send", size) for size in (300, 1024, 16 * 1024, 64 * 1024)}
    idle = encoded({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    reading = rpc("resources/read", 1024)
    plain = run_request(1024)
    named = run_request(1024, opscore_task_id="t.1", opscore_session_id="s", task_name="n")
    large = run_request(64 * 1024, opscore_task_id="t.1", opscore_session_id="s", task_name="n")
    answer = encoded({"jsonrpc": "2.0", "id": 7, "result": {"text": prose(900)}})
    listing = encoded({"items": [{"id": n, "name": f"item {n}"} for n in range(30)]})
    tool = encoded(
        {
            "jsonrpc": "2.0",
            "id": 7,
            "result": {"content": [{"type": "text", "text": prose(900)}], "isError": False},
        }
    )
    longest = encoded({"text": prose(60 * 1024)})

    show(
        "Requests",
        [
            ("is_json_type", lambda: is_json_type(b"application/json"), None),
            ("find_task_in_headers, none", lambda: find_task_in_headers(REQUEST_HEADERS), None),
            ("is_work, not JSON-RPC", lambda: is_work(plain), plain),
            ("is_work, tools/list", lambda: is_work(idle), idle),
            ("is_work, resources/read", lambda: is_work(reading), reading),
            *(
                (f"is_work, message/send, {size} bytes", lambda body=body: is_work(body), body)
                for size, body in calls.items()
            ),
            ("BodyPeek, message/send", peek(calls[1024]), calls[1024]),
            ("find_task, none", lambda: find_task(plain), plain),
            ("find_task, at the top", lambda: find_task(named), named),
            ("find_task, large", lambda: find_task(large), large),
            ("TaskPeek in two parts, at the top", peek_in_parts(named), named),
        ],
    )
    events = EventScanner()
    show(
        "Responses",
        [
            ("scanner_for, JSON", lambda: scanner_for(JSON_HEADERS), None),
            ("scanner_for, events", lambda: scanner_for(EVENT_HEADERS), None),
            ("is_event_stream", lambda: is_event_stream(EVENT_HEADERS), None),
            ("JsonScanner, no token", read_json(answer), answer),
            ("JsonScanner, no token, many fields", read_json(listing), listing),
            ("JsonScanner, a tool's result", read_json(tool), tool),
            ("JsonScanner, no token, large", read_json(longest), longest),
            ("EventScanner, an AG-UI delta", lambda: events.feed(DELTA), DELTA),
            ("EventScanner, an OpenAI chunk", lambda: events.feed(TOKEN), TOKEN),
            ("EventScanner, a chunk in two halves", feed_in_halves(TOKEN), TOKEN),
            ("EventScanner, a delta that says error", lambda: events.feed(MENTION), MENTION),
            ("EventScanner, a failure", lambda: EventScanner().feed(FAILING), FAILING),
        ],
    )


if __name__ == "__main__":
    main()
