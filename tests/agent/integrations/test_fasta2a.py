"""Agents on FastA2A."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from fasta2a import FastA2A, Worker
from fasta2a.broker import InMemoryBroker
from fasta2a.storage import InMemoryStorage
from starlette.testclient import TestClient

from tests.agent.support import Received, ScriptedOpsCore, watched
from tests.support.waiting import wait_until

LIFE = ["initializing", "idle"]
TASK = {"opscore_task_id": "t-1.1"}
MESSAGE = {
    "role": "user",
    "kind": "message",
    "messageId": "m-1",
    "parts": [{"kind": "text", "text": "draw"}],
}


class Painter(Worker[Any]):
    """Waits until it may go on, then paints, or fails."""

    def __init__(self, broker: Any, storage: Any) -> None:
        super().__init__(broker, storage)
        self.go_on = anyio.Event()
        self.fails = False
        self.leaves = "completed"

    async def run_task(self, params: Any) -> None:
        await self.storage.update_task(params["id"], state="working")
        await self.go_on.wait()
        if self.fails:
            raise ValueError("no ink")
        artifact: Any = {"artifact_id": "a-1", "parts": [{"text": "a line"}]}
        state: Any = self.leaves
        await self.storage.update_task(params["id"], state=state, new_artifacts=[artifact])

    async def cancel_task(self, params: Any) -> None:
        raise NotImplementedError

    def build_message_history(self, history: Any) -> list[Any]:
        return []

    def build_artifacts(self, result: Any) -> list[Any]:
        return []


class Shelf(InMemoryBroker):
    """Keeps a task until it may hand it out, or cannot take any."""

    def __init__(self) -> None:
        super().__init__()
        self.may_hand_out = anyio.Event()
        self.is_full = False

    async def run_task(self, params: Any) -> None:
        if self.is_full:
            raise ConnectionError("no room")
        self.later.start_soon(self._hand_out, params)

    async def _hand_out(self, params: Any) -> None:
        await self.may_hand_out.wait()
        await super().run_task(params)

    async def __aenter__(self) -> Any:
        await super().__aenter__()
        self.later = await self.aexit_stack.enter_async_context(anyio.create_task_group())
        return self


def painting(broker: InMemoryBroker | None = None) -> tuple[FastA2A, Painter]:
    storage: InMemoryStorage[Any] = InMemoryStorage()
    broker = broker or InMemoryBroker()
    worker = Painter(broker, storage)

    @asynccontextmanager
    async def lifespan(app: FastA2A) -> AsyncIterator[None]:
        async with app.task_manager, worker.run():
            yield

    return FastA2A(storage=storage, broker=broker, lifespan=lifespan), worker


def call(client: TestClient, method: str, task_id: str, **params: Any) -> httpx.Response:
    return client.post(
        "/",
        json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
        headers={"X-OpsCore-Task-Id": task_id},
    )


def send(client: TestClient, task_id: str = "t-1.1", *, method: str = "message/send") -> Any:
    answer = call(client, method, task_id, message=MESSAGE)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]["task"] if method == "message/send" else answer


def look_up(client: TestClient, sent: Any) -> Any:
    return call(client, "tasks/get", "t-0.1", id=sent["id"]).json()["result"]


def go_on(client: TestClient, event: anyio.Event) -> None:
    assert client.portal is not None
    client.portal.call(event.set)


def test_the_worker_is_what_works_and_its_end_is_the_tasks(ops_core: ScriptedOpsCore) -> None:
    app, worker = painting()
    with TestClient(watched(app, ops_core)) as client:
        sent = send(client)
        # The request is over long before the work.
        reports = ops_core.wait_for(*LIFE, "active")
        assert reports[-1]["details"] == TASK
        go_on(client, worker.go_on)
        reports = ops_core.wait_for(*LIFE, "active", "idle")
        done = look_up(client, sent)
    assert done["artifacts"][0]["parts"] == [{"text": "a line"}]
    assert reports[-1]["details"] == {
        **TASK,
        "opscore_task_state": "completed",
        "opscore_task_result": done,
    }


@pytest.mark.parametrize("method", ["message/send", "message/stream"])
@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raises", "ValueError", "no ink"),
        ("failed", "A2A failed", "no message given"),
        ("rejected", "A2A rejected", "no message given"),
    ],
)
def test_a_worker_that_fails_is_one_failure_and_fails_the_task(
    how: str, kind: str, message: str, method: str, ops_core: ScriptedOpsCore
) -> None:
    app, worker = painting()
    worker.fails, worker.leaves = how == "raises", how
    with TestClient(watched(app, ops_core)) as client:
        go_on(client, worker.go_on)  # at once, since a stream lasts until the end
        send(client, method=method)
        reports = ops_core.wait_for(*LIFE, "active", "error")
    error = {"type": kind, "message": message, "where": "Painter.run_task"}
    assert error.items() <= reports[-1]["details"]["error"].items()
    assert reports[-1]["details"]["opscore_task_state"] == "failed"


def test_a_stream_ends_its_task_with_the_work_as_well(ops_core: ScriptedOpsCore) -> None:
    app, worker = painting()
    with TestClient(watched(app, ops_core)) as client:
        go_on(client, worker.go_on)
        send(client, method="message/stream")
        ops_core.wait_for(*LIFE, "active", "idle")
        end = ops_core.wait_for_end("t-1.1")
    assert end["opscore_task_state"] == "completed"
    assert end["opscore_task_result"]["status"]["state"] == "completed"


def test_a_task_that_waits_for_a_worker_is_no_work_and_has_not_ended(
    ops_core: ScriptedOpsCore,
) -> None:
    shelf = Shelf()
    app, worker = painting(shelf)
    with TestClient(watched(app, ops_core)) as client:
        assert send(client)["status"]["state"] == "submitted"
        ops_core.wait_for(*LIFE, "active", "idle")
        go_on(client, shelf.may_hand_out)
        ops_core.wait_for(*LIFE, "active", "idle", "active")
        go_on(client, worker.go_on)
        reports = ops_core.wait_for(*LIFE, "active", "idle", "active", "idle")
    assert [report["details"].get("opscore_task_state") for report in reports[2:]] == [
        *(None, None),
        *(None, "completed"),
    ]


def test_a_task_that_is_not_queued_fails_with_its_request(ops_core: ScriptedOpsCore) -> None:
    shelf = Shelf()
    shelf.is_full = True
    app, _ = painting(shelf)
    agent = watched(app, ops_core)
    with TestClient(agent, raise_server_exceptions=False) as client:
        assert call(client, "message/send", "t-1.1", message=MESSAGE).status_code == 500
        reports = ops_core.wait_for(*LIFE, "active", "error")
    assert reports[-1]["details"]["opscore_task_state"] == "failed"


def test_one_that_is_canceled_in_a2a_ends_no_task(ops_core: ScriptedOpsCore) -> None:
    app, worker = painting()
    worker.leaves = "canceled"
    with TestClient(watched(app, ops_core)) as client:
        send(client)
        go_on(client, worker.go_on)
        reports = ops_core.wait_for(*LIFE, "active", "idle")
    assert reports[-1]["details"] == {}


def test_one_that_is_cancelled_at_ops_core_stops_and_its_worker_takes_the_next(
    ops_core: ScriptedOpsCore,
) -> None:
    def script(received: Received) -> httpx.Response | None:
        if not received.path.endswith("/heartbeat"):
            return None
        said = {name: received.body[name] for name in ("state", "intervalSeconds")}
        last = received.body["sequence"]
        beat = {**said, "lastSequence": last, "drain": False, "cancel": ["t-1.1"]}
        return httpx.Response(200, json=beat)

    ops_core.script = script
    app, worker = painting()
    with TestClient(watched(app, ops_core, heartbeat_interval=0.1)) as client:
        sent = send(client)
        ops_core.wait_for(*LIFE, "active", "idle")
        wait_until(lambda: look_up(client, sent)["status"]["state"] == "canceled")
        go_on(client, worker.go_on)
        send(client, "t-2.1")
        assert ops_core.wait_for_end("t-2.1")["opscore_task_state"] == "completed"


def test_switched_off_it_counts_by_its_requests(ops_core: ScriptedOpsCore) -> None:
    app, worker = painting()
    with TestClient(watched(app, ops_core, integrations=["-fasta2a"])) as client:
        send(client)
        assert ops_core.wait_for_end("t-1.1")["opscore_task_state"] == "completed"
        go_on(client, worker.go_on)
    assert ops_core.states == [*LIFE, "active", "idle", "draining", "finished"]
