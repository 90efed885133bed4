"""Graphs on LangGraph's server, with its runtime in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.agent.support import ScriptedOpsCore, watched
from tests.frameworks.easel import LIFE, Easel
from tests.support.waiting import wait_until

QUEUED = ("active", "idle")
"""A request that creates a run is over before the run begins."""

os.environ.update(  # it is read when the server is loaded
    MIGRATIONS_PATH="__inmem",
    DATABASE_URI=":memory:",
    REDIS_URI="fake",
    LANGGRAPH_RUNTIME_EDITION="inmem",
    LANGGRAPH_DISABLE_FILE_PERSISTENCE="true",
    LANGSMITH_LANGGRAPH_API_VARIANT="local_dev",
    LANGSERVE_GRAPHS=json.dumps({"painter": f"{Path(__file__).parent}/langgraph_painter.py:graph"}),
    LANGSMITH_TRACING="false",
    N_JOBS_PER_WORKER="1",
)

from langgraph_api.server import app  # noqa: E402


@pytest.fixture(autouse=True)
def _a_place_for_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it keeps some although it is told to keep none


def create(client: TestClient, what: str, task_id: str = "t-1.1", path: str = "/runs") -> Any:
    body = {"assistant_id": "painter", "input": {"what": what}}
    answer = client.post(path, json={**body, "opscore_task_id": task_id})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_run_is_active_until_it_is_done(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app, ops_core)) as client:
        create(client, "wait")
        ops_core.wait_for(*LIFE, *QUEUED, "active")
        easel.may_go_on.set()
        reports = ops_core.wait_for(*LIFE, *QUEUED, "active", "idle")
    end = {"opscore_task_id": "t-1.1", "opscore_task_state": "completed"}
    assert reports[-1]["details"] == end


def test_a_run_that_fails_is_told_and_fails_its_task(ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app, ops_core)) as client:
        create(client, "fail")
        reports = ops_core.wait_for(*LIFE, *QUEUED, "active", "error")
    details = reports[-1]["details"]
    assert details["error"] == {"type": "ValueError", "message": "no ink", "where": "graph painter"}
    assert details["opscore_task_state"] == "failed"


def test_a_run_that_waits_in_the_queue_is_no_work(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app, ops_core)) as client:
        create(client, "wait")
        ops_core.wait_for(*LIFE, *QUEUED, "active")
        create(client, "sky", "t-2.1")
        easel.may_go_on.set()
        assert ops_core.wait_for_end("t-2.1")["opscore_task_state"] == "completed"
    ids = [report["details"].get("opscore_task_id") for report in ops_core.reports]
    assert ids.index("t-2.1", 4) > 4


def test_a_run_that_its_request_waits_for_ends_the_task_with_the_answer(
    ops_core: ScriptedOpsCore,
) -> None:
    with TestClient(watched(app, ops_core)) as client:
        assert create(client, "sky", path="/runs/wait") == {"what": "sky painted"}
        end = ops_core.wait_for_end("t-1.1")
    assert end["opscore_task_state"] == "completed"
    assert end["opscore_task_result"] == {"what": "sky painted"}


def test_a_run_that_is_cancelled_ends_no_task(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app, ops_core)) as client:
        thread = client.post("/threads", json={}).json()["thread_id"]
        run = create(client, "wait", path=f"/threads/{thread}/runs")
        ops_core.wait_for(*LIFE, *QUEUED, *QUEUED, "active")
        path = f"/threads/{thread}/runs/{run['run_id']}/cancel"
        assert client.post(path, params={"wait": "false"}, json={}).is_success
        easel.may_go_on.set()
        wait_until(lambda: ops_core.states[-1] == "idle", message="the end of the run")
    assert "error" not in ops_core.states
    assert not any("opscore_task_state" in report["details"] for report in ops_core.reports)


def test_a_run_that_is_refused_fails_its_task(ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app, ops_core)) as client:
        body = {"assistant_id": "painter", "input": {}, "opscore_task_id": "t-1.1"}
        nowhere = "/threads/00000000-0000-0000-0000-000000000000/runs"
        assert client.post(nowhere, json=body).status_code == 404
        assert ops_core.wait_for_end("t-1.1")["opscore_task_status"] == 404


def test_switched_off_it_counts_by_its_requests(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app, ops_core, integrations=["-langgraph"])) as client:
        create(client, "sky")
        assert ops_core.wait_for_end("t-1.1")["opscore_task_state"] == "completed"
    assert ops_core.states == [*LIFE, *QUEUED, "draining", "finished"]
