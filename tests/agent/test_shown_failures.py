"""Reads that show the failure of another: a poll of a failed run has not failed itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opscore_middleware import AgentState
from tests.agent.exchange import JSON, Exchange, answering, reported
from tests.agent.support import ScriptedOpsCore, watched
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.anyio

STATUS = {"state": "failed"}
ANOTHERS = pytest.mark.parametrize(
    "said",
    [
        {"run_id": "r", "status": "failed", "error": {"message": "no ink"}},  # ACP
        {"run_id": "r", "status": "ERROR", "content": "no ink"},  # agno
        {"id": "t", "contextId": "c", "status": STATUS},  # A2A
        {"task": {"kind": "task", "status": STATUS}},
        {"__error__": {"error": "ValueError", "message": "no ink"}},  # LangGraph
    ],
    ids=str,
)


@ANOTHERS
async def test_a_read_that_shows_anothers_failure_has_not_failed(
    said: Any, ops_core: ScriptedOpsCore
) -> None:
    agent = answering(ops_core, json.dumps(said).encode())
    for _ in range(3):
        await Exchange(method="GET").run(agent)
    await Exchange().run(agent)
    await reported(ops_core, "idle", "active", "error")


TASK = {"jsonrpc": "2.0", "id": 1, "result": {"id": "t", "status": STATUS}}


def call(method: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}).encode()


@pytest.mark.parametrize("method", ["tasks/get", "GetTask", "tasks/list"])
async def test_a_call_that_is_no_work_and_shows_anothers_failure_has_not_failed(
    method: str, ops_core: ScriptedOpsCore
) -> None:
    agent = answering(ops_core, json.dumps(TASK).encode())
    await Exchange(call(method), headers=JSON).run(agent)
    await Exchange(call("message/send"), headers=JSON).run(agent)
    await reported(ops_core, "active", "error")


@ANOTHERS
async def test_a_read_that_works_has_failed_by_what_it_shows(
    said: Any, ops_core: ScriptedOpsCore
) -> None:
    agent = answering(ops_core, json.dumps(said).encode(), include=["/job"])
    await Exchange(method="GET").run(agent)
    await reported(ops_core, "idle", "active", "error")


async def test_a_read_that_lasts_has_failed_by_what_it_shows(ops_core: ScriptedOpsCore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await wait_until_async(lambda: agent.state is AgentState.ACTIVE)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"__error__": "no ink"}'})

    agent = watched(app, ops_core, read_grace=0.01)
    await Exchange(method="GET").run(agent)
    await reported(ops_core, "idle", "active", "error")


@pytest.mark.parametrize(
    "said",
    [
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no ink"}},
        {"type": "RUN_ERROR", "message": "no ink"},  # AG-UI
        {"type": "run.failed", "run": {"run_id": "r", "status": "failed"}},
        {"event": "RunError", "run_id": "r", "content": "no ink"},
    ],
    ids=str,
)
async def test_a_read_that_says_that_it_failed_has(said: Any, ops_core: ScriptedOpsCore) -> None:
    agent = answering(ops_core, json.dumps(said).encode())
    await Exchange(method="GET").run(agent)
    await reported(ops_core, "idle", "error")
