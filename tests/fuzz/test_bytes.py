"""Bytes that no client would send: refused in JSON, never with a 500, and nothing is kept."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from typing import Any, Final
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.fuzz.support import RIGHT, WORKFLOW, app, register, there

REGISTRATION: Final = {"agentId": "a", "agentName": "n"}
REPORT: Final = {"agentId": "a", "timestamp": "2026-09-21T14:13:20Z", "state": "idle"}
BEAT: Final = {"instanceId": "i", "state": "idle", "sequence": 1, "intervalSeconds": 10}
GOOD: Final[dict[str, Any]] = {
    "POST /v1/opscore/agents": REGISTRATION,
    "POST /v1/opscore/agent/{agentId}/state": REPORT,
    "POST /v1/opscore/agent/{agentId}/states": {"reports": [REPORT]},
    "POST /v1/opscore/agent/{agentId}/heartbeat": BEAT,
    "POST /v1/opscore/sessions": {"agentId": "a"},
    "PATCH /v1/opscore/sessions/{sessionId}": {"result": {}},
    "POST /v1/opscore/workflows": WORKFLOW,
    "POST /v1/opscore/agent/{agentId}/workflow": {
        "workflowDefinition": WORKFLOW,
        "initialPayload": {"text": "long"},
        "runAt": "2026-09-21T14:13:20Z",
    },
    "POST /v1/opscore/tasks/{taskId}/result": {"result": {"sum": 1}},
    "POST /v1/opscore/tasks/{taskId}/progress": {"progress": 0.5, "message": "half"},
    "POST /v1/opscore/internal/agent/notify": {
        "event_type": "REGISTER",
        "agent_details": {**REGISTRATION, "metadata": {}},
    },
}
DOCUMENT: Final = app().openapi()
# What breaks parsers, databases and serialisers in the field.
HOSTILE: Final = [
    b'"\\ud800"',
    b'"\\u0000"',
    b"\xff",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5_000,
    b"-" + b"9" * 30,
    b"[" * 10_000 + b"]" * 10_000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b'"' + b"x" * 100_000 + b'"',
    b'"0000-00-00T00:00:00Z"',
    b'"9999-12-31T23:59:59-23:59"',
    b'{"a":1,"a":2}',
    b"\xef\xbb\xbf{}",
    b"",
]


@st.composite
def spoilt(draw: st.DrawFn, body: Any) -> bytes:
    """A good body with a value, or any bytes of it, replaced by what nobody expects."""
    text = json.dumps(body).encode()
    bad = draw(st.sampled_from(HOSTILE) | st.binary(max_size=20))
    values = [json.dumps(v).encode() for v in _values(body)]
    if draw(st.booleans()):
        return text.replace(draw(st.sampled_from(values)), bad, 1)
    start = draw(st.integers(0, len(text)))
    return text[:start] + bad + text[start + draw(st.integers(0, 20)) :]


def _values(body: Any) -> list[Any]:
    inner = [*body.values()] if isinstance(body, dict) else body if isinstance(body, list) else []
    return [body, *(found for value in inner for found in _values(value))]


@pytest.mark.parametrize("label", GOOD)
def test_a_body_of_any_bytes_is_answered_as_documented(client: TestClient, label: str) -> None:
    method, _, template = label.partition(" ")
    path = template.format(**there(client))
    documented = {int(s) for s in DOCUMENT["paths"][template][method.lower()]["responses"]}

    @settings(max_examples=30, derandomize=True, deadline=None)
    @given(content=spoilt(GOOD[label]) | st.binary(max_size=200))
    def answered(content: bytes) -> None:
        register(client)
        answer = client.request(method, path, content=content, headers=RIGHT)
        assert answer.status_code in documented, answer.text
        assert answer.json() is not None

    answered()


SEGMENT: Final = st.text(
    st.characters(codec="utf-8") | st.sampled_from("/%?#.;\\ \x00"), max_size=20
)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"]),
    segments=st.lists(
        SEGMENT | st.sampled_from(["v1", "opscore", "agent", "agents", "sessions", "a", "state"]),
        max_size=6,
    ),
    query=st.text(max_size=20),
)
def test_any_path_is_answered_in_json(
    client: TestClient, method: str, segments: list[str], query: str
) -> None:
    path = "/v1/opscore/" + "/".join(quote(segment, safe="") for segment in segments)
    answer = client.request(method, f"{path}?{quote(query)}", headers=RIGHT)
    assert answer.status_code < 500
    assert answer.status_code == 204 or answer.headers["content-type"] == "application/json"


def _cursor(position: Any) -> str:
    return urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


# What a name may be to Python, and not to a database.
UNKEPT: Final = [
    "a\0b",
    *map(_cursor, ["\0", ["\ud800", "b"], [1, "\ud800"], [2**80, "a"], "\ud800"]),
]
ASKED: Final = [
    (method, path, parameter["name"], parameter["in"])
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    for parameter in operation.get("parameters", [])
    if parameter["in"] in {"path", "query"} and not path.endswith("/events")
]


@pytest.mark.parametrize(("method", "path", "name", "place"), ASKED)
def test_what_no_store_can_be_asked_for_is_refused(
    client: TestClient, method: str, path: str, name: str, place: str
) -> None:
    for bad in UNKEPT:
        values = {**there(client), **({name: quote(bad, safe="")} if place == "path" else {})}
        query = f"?{name}={quote(bad, safe='')}" if place == "query" else ""
        url = re.sub(r"{(\w+)}", lambda found, values=values: values[found[1]], path) + query
        body = {} if method in {"post", "patch"} else None
        answer = client.request(method, url, headers=RIGHT, json=body)
        assert answer.status_code < 500, bad
