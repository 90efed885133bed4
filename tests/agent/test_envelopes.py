"""Failures inside a 200: each protocol's own, and nothing that only looks like one."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.agent.envelopes import (
    SIGNS,
    TOKENS,
    Detector,
    Failure,
    find_event_failure,
    find_failure,
)


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
    ("OpenAI run.failed", {"type": "run.failed", "run": ACP_RUN}),
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
    ("Vercel AI error", {"type": "error", "error": {"code": "server_error", "message": "no ink"}}),
    ("agno TeamRunError", {"event": "TeamRunError", "content": "no ink"}),
    ("agno WorkflowError", {"event": "WorkflowError", "run_id": "r", "error": "no ink"}),
    ("Event error", {"error": "no ink"}),
    ("Event error", {"error": "no ink", "error_type": "ValueError", "message": "An error occurred"}),
    ("Event error", {"error": {"message": "no ink", "type": "server_error", "code": "500"}}),
    ("Event error", {"error": {"code": 1}, "message": "no ink"}),
]

CALM: list[object] = [
    {"status": "failed"},
    {"status": "failed", "id": "job-1", "error": "no ink"},
    {"error": "no ink"},
    {"error": {"message": "no ink", "code": -32603}},
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
    {"type": "response.failed"},
    {"type": "run_error", "message": "no ink"},
    {"type": "SUBAGENT_ERROR", "message": "no ink"},
    {"type": "TOOL_CALL_RESULT", "content": "error: failed"},
    {"type": "PaymentFailedEvent", "amount": 3},
    {"type": "WorkflowCompletedEvent", "value": {}},
    {"event": "RunError"},
    {"event": "RunErrorHandled", "run_id": "r"},
    {**AGNO_EVENT, "parent_run_id": "outer"},
    {**AGNO_RUN, "status": "COMPLETED"},
    {"status": "ERROR", "content": "no ink"},
    {"status": "error", "run_id": "r"},
    {**ACP_RUN, "status": "completed", "error": None},
    {**ACP_RUN, "status": "cancelled"},
    {"__error__": None},
    {"values": {"__error__": "no ink"}},
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
    *map(
        rpc_error,
        [-32700, -32600, -32601, -32602, -32000, -32001, -32099, "-32603", None, True],
    ),
    [rpc_error(-32601), rpc(result={"isError": False})],
    *[None, True, 0, "failed", "error", [], {}, [1, [2]], 1.5],
]

CALM_DATA: list[object] = [
    *(case for case in CALM if not (isinstance(case, dict) and case.get("error")) or "rpc" in case),
    *(rpc_error(code) for code in (-32700, -32602, -32001)),
    {"error": None, "output": "fine"},
    {"error": "", "output": "fine"},
    {"error": False},
    {"type": "RUN_FINISHED", "runId": "r"},
    {"event": "ToolCallError", "run_id": "r", "content": "no ink"},
    {"event": "RunError", "run_id": "inner", "parent_run_id": "outer", "content": "no ink"},
    {"type": "tool-output-error", "toolCallId": "c", "errorText": "no ink"},
    {"choices": [{"delta": {"content": 'an "error" failed'}}]},
]
CALM_DATA = [
    case
    for case in CALM_DATA
    if not (isinstance(case, dict) and case.get("type") == "response.failed")
    and not (isinstance(case, dict) and case.get("event") == "RunError" and len(case) == 1)
]


@pytest.mark.parametrize(("kind", "body"), BODIES, ids=str)
def test_a_failure_in_a_json_body_is_found(kind: str, body: object) -> None:
    assert find_failure(body) == (kind, "no ink")


@pytest.mark.parametrize(("kind", "data"), DATA, ids=str)
def test_a_failure_in_an_event_is_found(kind: str, data: object) -> None:
    assert find_event_failure(None, data, b"") == (kind, "no ink")


@pytest.mark.parametrize("body", CALM, ids=str)
def test_what_only_looks_like_a_failure_is_none_of_our_business(body: object) -> None:
    assert find_failure(body) is None


@pytest.mark.parametrize("data", CALM_DATA, ids=str)
def test_an_event_that_only_looks_like_a_failure_is_none(data: object) -> None:
    assert find_event_failure(None, data, b"") is None
    assert find_event_failure("message", data, b"") is None


@pytest.mark.parametrize(
    ("event", "data", "kind"),
    [
        ("error", {"error": "ValueError", "message": "no ink"}, "Event error"),
        ("error", {"type": "error", "error": {"type": "overloaded", "message": "no ink"}}, None),
        ("error", {"type": "error", "code": "E", "message": "no ink"}, "Event error"),
        ("error", "no ink", "Event error"),
        ("error", {"detail": "no ink"}, "Event error"),
        ("thread.run.failed", OPENAI_RUN, "OpenAI thread.run.failed"),
        ("response.failed", OPENAI_FAILED, "OpenAI response.failed"),
        ("run.failed", {"run": ACP_RUN}, "ACP failed"),
        ("RunError", AGNO_EVENT, "agno RunError"),
        ("RunError", {"content": "no ink"}, "agno RunError"),
        ("WorkflowFailedEvent", {"message": "no ink"}, "LlamaIndex WorkflowFailedEvent"),
    ],
)
def test_an_events_name_tells_of_a_failure(event: str, data: object, kind: str | None) -> None:
    found = find_event_failure(event, data, json.dumps(data).encode())
    assert found is not None
    assert found.message == ("no ink" if "error" != event or found.kind else "")
    assert kind is None or found.kind in {kind, "Event error"}
