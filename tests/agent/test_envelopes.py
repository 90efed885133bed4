"""Failures inside a 200: each protocol's own, and nothing that only looks like one."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.agent.envelopes import Detector, find_event_failure, find_failure
from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.signs import SIGNS, TOKENS


def rpc(**fields: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, **fields}


def rpc_error(code: object, message: str = "no ink") -> dict[str, Any]:
    return rpc(error={"code": code, "message": message, "data": {"prompt": "secret"}})


def status(state: str, *words: str) -> dict[str, Any]:
    parts = [{"kind": "text", "text": word} for word in words]
    return {
        "state": state,
        "message": {"kind": "message", "role": "agent", "messageId": "m", "parts": parts},
        "timestamp": "2026-11-22T14:44:16Z",
    }


def a2a_task(state: str = "failed", *words: str) -> dict[str, Any]:
    """A task as A2A 0.2 and 0.3 write it."""
    return {
        "kind": "task",
        "id": "t-1",
        "contextId": "c-1",
        "status": status(state, *(words or ("no ink",))),
        "history": [{"role": "user", "parts": [{"kind": "text", "text": "secret"}]}],
    }


def a2a_update(state: str = "failed") -> dict[str, Any]:
    return {
        "kind": "status-update",
        "taskId": "t-1",
        "contextId": "c-1",
        "status": status(state, "no ink"),
        "final": True,
    }


def a2a_proto(state: str = "TASK_STATE_FAILED", name: str = "parts") -> dict[str, Any]:
    """A status as A2A 1.0 writes it; 0.3 over REST calls the parts `content`."""
    message = {"messageId": "m", "role": "ROLE_AGENT", name: [{"text": "no ink"}]}
    return {"taskId": "t-1", "contextId": "c-1", "status": {"state": state, "message": message}}


ACP_RUN = {
    "run_id": "4f0c",
    "agent_name": "writer",
    "session_id": "s",
    "status": "failed",
    "output": [],
    "error": {"code": "server_error", "message": "no ink"},
}
AGNO_RUN = {"run_id": "r", "agent_id": "a", "status": "ERROR", "content": "no ink", "messages": []}
AGNO_EVENT = {
    "created_at": 1757348314,
    "event": "RunError",
    "agent_id": "a",
    "run_id": "r",
    "content": "no ink",
    "error_type": "model_provider_error",
}
WORKFLOW_FAILED = {
    "value": {
        "step_name": "write",
        "exception": {"exception_type": "builtins.ValueError", "exception_message": "no ink"},
        "attempts": 1,
        "elapsed_seconds": 0.1,
    },
    "qualified_name": "workflows.events.WorkflowFailedEvent",
    "type": "WorkflowFailedEvent",
    "types": ["StopEvent"],
}
OPENAI_FAILED = {
    "type": "response.failed",
    "sequence_number": 4,
    "response": {
        "id": "resp_1",
        "object": "response",
        "status": "failed",
        "error": {"code": "server_error", "message": "no ink"},
    },
}
OPENAI_RUN = {
    "id": "run_1",
    "object": "thread.run",
    "status": "failed",
    "last_error": {"code": "server_error", "message": "no ink"},
}

BODIES: list[tuple[str, object]] = [
    ("JSON-RPC -32603", rpc_error(-32603)),
    ("JSON-RPC -32800", rpc_error(-32800)),
    ("JSON-RPC -31999", rpc_error(-31999)),
    ("JSON-RPC 1", rpc_error(1)),
    ("JSON-RPC -32603", [rpc(result={}), rpc_error(-32603)]),
    ("A2A failed", rpc(result=a2a_task())),
    ("A2A rejected", rpc(result=a2a_task("rejected"))),
    ("A2A failed", rpc(result=a2a_update())),
    ("A2A failed", rpc(result={"id": "1", "sessionId": "s", "status": status("failed", "no ink")})),
    ("A2A failed", a2a_task()),
    ("A2A failed", {"task": a2a_task()}),
    ("A2A failed", {"taskId": "t-1", "contextId": None, "status": status("failed", "no ink")}),
    ("A2A TASK_STATE_FAILED", a2a_proto()),
    ("A2A TASK_STATE_FAILED", a2a_proto(name="content")),
    ("A2A TASK_STATE_REJECTED", {"task": a2a_proto("TASK_STATE_REJECTED")}),
    ("A2A TASK_STATE_FAILED", {"statusUpdate": a2a_proto()}),
    ("A2A TASK_STATE_FAILED", rpc(result={"task": a2a_proto()})),
    ("A2A TASK_STATE_FAILED", rpc(result={"statusUpdate": a2a_proto()})),
    ("MCP isError", rpc(result={"content": [{"type": "text", "text": "no ink"}], "isError": True})),
    ("AG-UI RUN_ERROR", {"type": "RUN_ERROR", "message": "no ink", "code": "E1"}),
    ("AG-UI RUN_ERROR", {"type": "RUN_ERROR", "error": {"message": "no ink"}}),
    ("OpenAI response.failed", OPENAI_FAILED),
    ("OpenAI response failed", OPENAI_FAILED["response"]),
    ("ACP failed", {"type": "run.failed", "run": ACP_RUN}),
    ("OpenAI run.failed", {"type": "run.failed", "run": {"error": {"message": "no ink"}}}),
    ("agno ERROR", AGNO_RUN),
    ("agno RunError", AGNO_EVENT),
    ("LangGraph __error__", {"__error__": {"error": "ValueError", "message": "no ink"}}),
    ("LlamaIndex WorkflowFailedEvent", WORKFLOW_FAILED),
    ("ACP failed", ACP_RUN),
]

DATA: list[tuple[str, object]] = [
    *BODIES,
    ("OpenAI run.failed", {"type": "run.failed", "error": {"message": "no ink"}}),
    ("Vercel AI error", {"type": "error", "errorText": "no ink"}),
    ("Event error", {"type": "error", "error": {"code": "server_error", "message": "no ink"}}),
    ("agno TeamRunError", {"event": "TeamRunError", "content": "no ink"}),
    ("agno WorkflowError", {"event": "WorkflowError", "run_id": "r", "error": "no ink"}),
    ("Event error", {"error": "no ink"}),
    (
        "Event error",
        {"error": "no ink", "error_type": "ValueError", "message": "An error occurred"},
    ),
    ("Event error", {"error": {"message": "no ink", "type": "server_error", "code": "500"}}),
    ("Event error", {"error": {"code": 1}, "message": "no ink"}),
]

CALM: list[object] = [
    {"status": "failed"},
    {"status": {"state": "failed"}},
    {"id": 7, "status": {"state": "failed", "message": "no ink"}},
    {"id": "job-7", "name": "backup", "status": {"state": "failed"}},
    {"task": {"name": "backup", "status": {"state": "failed"}}},
    {"result": {"status": {"state": "rejected"}}},
    {"result": {"isError": True, "content": [{"type": "text", "text": "no ink"}]}},
    {"tasks": [a2a_task()]},
    [a2a_task()],
    [{"error": {"code": -32603, "message": "no ink"}}],
    {"type": "error"},
    {"type": "error", "message": "no ink"},
    {"type": "run_error", "message": "no ink"},
    {"type": "SUBAGENT_ERROR", "message": "no ink"},
    {"type": "TOOL_CALL_RESULT", "content": "error: failed"},
    {"type": "tool-output-error", "toolCallId": "c", "errorText": "no ink"},
    {"type": "PaymentFailedEvent", "amount": 3},
    {"type": "WorkflowCompletedEvent", "value": {}},
    {"type": "response.completed", "response": {"status": "completed", "error": None}},
    {"object": "response", "status": "incomplete", "error": None},
    {"object": "job", "status": "failed", "last_error": {"message": "no ink"}},
    {"event": "RunErrorHandled", "run_id": "r"},
    {"event": "ToolCallError", "run_id": "r", "content": "no ink"},
    {**AGNO_EVENT, "parent_run_id": "outer"},
    {**AGNO_RUN, "status": "COMPLETED"},
    {"status": "ERROR", "content": "no ink"},
    {"status": "error", "run_id": "r"},
    {**ACP_RUN, "status": "completed", "error": None},
    {**ACP_RUN, "status": "cancelled", "error": None},
    {"__error__": None},
    {"values": {"__error__": "no ink"}},
    {"choices": [{"delta": {"content": 'an "error" failed'}}], "error": None},
    rpc(result=a2a_task("completed")),
    rpc(result=a2a_task("canceled")),
    rpc(result=a2a_task("input-required")),
    a2a_proto("TASK_STATE_CANCELLED"),
    rpc(result={"kind": "message", "parts": [{"kind": "text", "text": "it failed: error"}]}),
    rpc(result={"content": [{"type": "text", "text": "isError"}], "isError": False}),
    rpc(result={"content": [], "isError": "true"}),
    rpc(result={"tasks": [a2a_task()]}),
    rpc(method="notifications/message", params={"level": "error", "data": "failed"}),
    rpc(error=None),
    rpc(error="no ink"),
    *map(rpc_error, [-32700, -32600, -32601, -32602, -32000, -32001, -32099]),
    *map(rpc_error, ["-32603", None, True, 1.5, [], {}]),
    [rpc_error(-32601), rpc(result={"isError": False})],
    *[None, True, 0, "failed", "error", [], {}, [1, [2]], 1.5],
]

CALM_IN_A_BODY: list[object] = [
    {"error": "no ink"},
    {"error": {"message": "no ink", "code": -32603}},
    {"status": "failed", "id": "job-1", "error": "no ink"},
    {"type": "error", "errorText": "no ink"},
    {"type": "response.failed"},
    {"event": "RunError"},
]

CALM_IN_AN_EVENT: list[object] = [{"error": ""}, {"error": False}, {"error": {}}, {"error": []}]


@pytest.mark.parametrize(("kind", "body"), BODIES)
def test_a_failure_in_a_json_body_is_found(kind: str, body: object) -> None:
    assert find_failure(body) == (kind, "no ink")


@pytest.mark.parametrize(("kind", "data"), DATA)
def test_a_failure_in_an_event_is_found(kind: str, data: object) -> None:
    assert find_event_failure(None, data, b"") == (kind, "no ink")


@pytest.mark.parametrize("data", [{"type": "error", "errorText": ""}, rpc_error(-32603, "")])
def test_a_failure_that_has_nothing_to_say_is_one(data: object) -> None:
    """As many timeouts are."""
    found = find_event_failure(None, data, b"")
    assert found is not None
    assert found.message == "no message given"


@pytest.mark.parametrize("body", CALM + CALM_IN_A_BODY)
def test_what_only_looks_like_a_failure_in_a_body_is_none_of_our_business(body: object) -> None:
    assert find_failure(body) is None


@pytest.mark.parametrize("data", CALM + CALM_IN_AN_EVENT)
def test_what_only_looks_like_a_failure_in_an_event_is_none(data: object) -> None:
    assert find_event_failure(None, data, b"") is None
    assert find_event_failure("message", data, b"") is None


@pytest.mark.parametrize(
    ("event", "data", "kind"),
    [
        ("error", {"error": {"type": "overloaded", "message": "no ink"}}, "Event error"),
        ("error", {"type": "error", "code": "E", "message": "no ink"}, "Event error"),
        ("error", {"detail": "no ink"}, "Event error"),
        ("error", "no ink", "Event error"),
        ("thread.run.failed", OPENAI_RUN, "OpenAI thread.run.failed"),
        ("response.failed", OPENAI_FAILED, "OpenAI response.failed"),
        ("run.failed", {"run": ACP_RUN}, "ACP failed"),
        ("RunError", AGNO_EVENT, "agno RunError"),
        ("RunError", {"content": "no ink"}, "agno RunError"),
        ("WorkflowFailedEvent", WORKFLOW_FAILED, "LlamaIndex WorkflowFailedEvent"),
        ("WorkflowFailedEvent", {"message": "no ink"}, "LlamaIndex WorkflowFailedEvent"),
    ],
)
def test_an_events_name_tells_of_a_failure(event: str, data: object, kind: str) -> None:
    assert find_event_failure(event, data, json.dumps(data).encode()) == (kind, "no ink")


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("Error", {"message": "no ink"}),
        ("errors", {"message": "no ink"}),
        ("thread.run.step.failed", OPENAI_RUN),
        ("RunError", {**AGNO_EVENT, "parent_run_id": "outer"}),
        ("ToolCallError", {"content": "no ink"}),
        ("message", rpc_error(-32601)),
        ("", {}),
    ],
)
def test_other_names_do_not(event: str, data: object) -> None:
    assert find_event_failure(event, data, b"{}") is None


def test_an_error_event_without_json_is_told_in_its_own_words() -> None:
    assert find_event_failure("error", None, b"no ink") == ("Event error", "no ink")
    assert find_event_failure("error", None, b"") == ("Event error", "no message given")


def test_an_error_events_message_goes_before_its_class() -> None:
    data = {"error": "ValueError", "message": "no ink"}  # as LangGraph sends it
    assert find_event_failure("error", data, b"") == ("Event error", "no ink")


def test_the_words_of_all_parts_are_told_and_nothing_else() -> None:
    found = find_failure(rpc(result=a2a_task("failed", "no ink", "no paper")))
    assert found == ("A2A failed", "no ink\nno paper")
    for _, body in BODIES:
        assert "secret" not in repr(find_failure(body))


def test_a_failure_without_words_is_a_failure() -> None:
    assert find_failure(rpc(error={"code": -32603})) == ("JSON-RPC -32603", "no message given")
    assert find_failure(rpc(result={"isError": True, "content": [{"type": "image"}]})) == (
        "MCP isError",
        "no message given",
    )


@given(st.text(alphabet=st.characters(), max_size=2000) | st.just("\ud800\0" * 300))
def test_messages_are_bounded_and_can_be_sent(words: str) -> None:
    for found in (
        find_failure(rpc_error(-32603, words)),
        find_event_failure("error", {"message": words}, b""),
        Detector(lambda _: words or "x")(None),
        Detector(lambda _: {"type": words, "message": words})(None),
    ):
        assert found is not None
        for text in found:
            assert 0 < len(text) <= 500
            assert "\0" not in text
            text.encode()


# fmt: off
NAMES = [
    "jsonrpc", "error", "code", "message", "result", "status", "state", "task", "statusUpdate",
    "isError", "type", "event", "run", "run_id", "__error__", "parts", "content", "text", "kind",
    "value", "qualified_name", "response",
]
TELLING = [
    "failed", "ERROR", "RUN_ERROR", "RunError", "XFailedEvent", "TASK_STATE_FAILED",
    "response.failed", "error", "task",
]
# fmt: on
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(TELLING),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
)


@given(JSON, st.none() | st.text(max_size=9) | st.sampled_from(["error", "XFailedEvent"]))
def test_no_value_raises(value: object, event: str | None) -> None:
    for found in (find_failure(value), find_event_failure(event, value, b"x")):
        assert found is None or isinstance(found, Failure)


def test_nesting_without_end_is_no_failure() -> None:
    parts: list[object] = []
    parts.append(parts)
    assert find_failure(rpc(result={"isError": True, "content": parts})) is None


def test_every_failure_bears_a_token() -> None:
    for _, data in DATA:
        text = json.dumps(data).lower()
        assert any(token in text for token in TOKENS)


def test_every_sign_is_seen_to_work() -> None:
    seen = {kind.partition(" ")[0] for kind, _ in DATA} | {"Event"}
    assert {sign.kind.partition(" ")[0] for sign in SIGNS} == seen


def test_an_integrators_detector_is_asked_first() -> None:
    def out_of_ink(value: object) -> str | None:
        return "the printer says so" if isinstance(value, dict) and value.get("ink") == 0 else None

    detectors = [Detector(out_of_ink)]
    assert find_failure({"ink": 0}, detectors) == ("Failure", "the printer says so")
    assert find_event_failure(None, {"ink": 0, "error": "x"}, b"", detectors) == (
        "Failure",
        "the printer says so",
    )
    assert find_failure({"ink": 1}, detectors) is None
    assert find_failure(rpc_error(-32603), detectors) == ("JSON-RPC -32603", "no ink")


@pytest.mark.parametrize(
    ("verdict", "found"),
    [
        (None, None),
        ("", None),
        ({}, None),
        ("no ink", ("Failure", "no ink")),
        (Failure("Printer", "no ink"), ("Printer", "no ink")),
        ({"type": "Printer", "message": "no ink"}, ("Printer", "no ink")),
        ({"message": "no ink"}, ("Failure", "no ink")),
        ({"type": "Printer"}, ("Printer", "no message given")),
        ({"type": 7, "message": ["no", "ink"]}, ("7", "['no', 'ink']")),
    ],
)
def test_what_a_detector_says_becomes_a_failure(
    verdict: Any, found: tuple[str, str] | None
) -> None:
    assert Detector(lambda _: verdict)({}) == found


def test_a_detector_that_raises_is_ignored_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(value: object) -> str:
        raise KeyError("secret")

    detector = Detector(broken)
    with caplog.at_level(logging.WARNING, "opscore_middleware"):
        for _ in range(3):
            assert find_failure(rpc_error(-32603), [detector]) == ("JSON-RPC -32603", "no ink")
    [line] = caplog.messages
    assert "broken" in line
    assert "KeyError" in line
    assert "secret" not in line
