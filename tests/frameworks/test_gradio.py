"""Apps on Gradio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.agent.support import ScriptedOpsCore, watched
from tests.frameworks.easel import EASEL, LIFE, Easel

QUEUED = ("active", "idle")
"""A request that joins the queue is over before the event begins."""


def stroke(what: str) -> Iterator[str]:
    yield "the first stroke"
    yield EASEL.paint(what)


def paint_all(whats: list[str]) -> list[list[str]]:
    return [[EASEL.paint(what) for what in whats]]


def app() -> FastAPI:
    with gradio.Blocks(analytics_enabled=False) as blocks:
        what, painted = gradio.Textbox(), gradio.Textbox()
        button = gradio.Button()
        button.click(EASEL.paint, what, painted, api_name="paint")
        button.click(stroke, what, painted, api_name="stroke")
        button.click(EASEL.paint, what, painted, api_name="directly", queue=False)
        button.click(
            paint_all, what, painted, api_name="all", batch=True, concurrency_id="painting"
        )
        button.click(EASEL.paint, what, painted, api_name="one", concurrency_id="painting")
    return gradio.mount_gradio_app(FastAPI(), blocks, path="", show_error=False)


def join(client: TestClient, function: str, what: str, task_id: str = "t-1.1") -> Any:
    answer = client.post(
        f"/gradio_api/call/{function}",
        json={"data": [what]},
        headers={"X-OpsCore-Task-Id": task_id},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["event_id"]


@pytest.mark.parametrize("function", ["paint", "stroke"])
def test_a_queued_event_is_active_until_it_is_done(
    function: str, easel: Easel, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(watched(app(), ops_core)) as client:
        join(client, function, "wait")
        reports = ops_core.wait_for(*LIFE, *QUEUED, "active")
        assert reports[-1]["details"] == {"opscore_task_id": "t-1.1"}
        easel.may_go_on.set()
        reports = ops_core.wait_for(*LIFE, *QUEUED, "active", "idle")
    assert [report["details"].get("opscore_task_state") for report in reports[2:]] == [
        *(None, None),
        *(None, "completed"),
    ]


@pytest.mark.parametrize("function", ["paint", "stroke"])
def test_an_event_that_fails_is_told_and_fails_its_task(
    function: str, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(watched(app(), ops_core)) as client:
        join(client, function, "fail")
        reports = ops_core.wait_for(*LIFE, *QUEUED, "active", "error")
    details = reports[-1]["details"]
    assert details["error"] == {
        "type": "ValueError",
        "message": "no ink",
        "where": f"event {function}",
    }
    assert details["opscore_task_state"] == "failed"


def test_an_event_that_waits_for_its_turn_is_no_work(
    easel: Easel, ops_core: ScriptedOpsCore
) -> None:
    with TestClient(watched(app(), ops_core)) as client:
        join(client, "one", "wait", "t-1.1")
        ops_core.wait_for(*LIFE, *QUEUED, "active")
        join(client, "all", "sky", "t-2.1")
        join(client, "all", "sea", "t-3.1")
        easel.may_go_on.set()
        for task_id in ("t-1.1", "t-2.1", "t-3.1"):
            assert ops_core.wait_for_end(task_id)["opscore_task_state"] == "completed"


def test_an_event_that_is_cancelled_ends_no_task(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app(), ops_core)) as client:
        session = {"session_hash": "s-1", "fn_index": 0}
        answer = client.post(
            "/gradio_api/queue/join",
            json={"data": ["wait"], "opscore_task_id": "t-1.1", **session},
        )
        ops_core.wait_for(*LIFE, *QUEUED, "active")
        client.post("/gradio_api/cancel", json={"event_id": answer.json()["event_id"], **session})
        ops_core.wait_for(*LIFE, *QUEUED, "active", "idle")
    assert not any("opscore_task_state" in report["details"] for report in ops_core.reports)


def test_an_event_that_passes_the_queue_by_is_a_request(ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app(), ops_core)) as client:
        answer = client.post("/gradio_api/run/directly", json={"data": ["sky"]})
        assert answer.json()["data"] == ["sky painted"]
        client.post("/gradio_api/run/directly", json={"data": ["fail"]})
        reports = ops_core.wait_for(*LIFE, "active", "idle", "active", "error")
    assert reports[-1]["details"]["error"]["type"] == "HTTP 500"


def test_switched_off_it_counts_by_its_requests(easel: Easel, ops_core: ScriptedOpsCore) -> None:
    with TestClient(watched(app(), ops_core, integrations=["-gradio"])) as client:
        join(client, "paint", "fail")
        assert ops_core.wait_for_end("t-1.1")["opscore_task_state"] == "completed"
    assert ops_core.states == [*LIFE, "active", "idle", "draining", "finished"]
