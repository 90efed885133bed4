"""Agents on FastA2A."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fasta2a import FastA2A, Worker
from fasta2a.broker import InMemoryBroker
from fasta2a.storage import InMemoryStorage
from starlette.testclient import TestClient

from tests.agent.support import ScriptedOpsCore, watched

LIFE = ["initializing", "idle"]


class Painter(Worker[Any]):
    """Waits until it may go on, then paints, or fails."""

    def __init__(self, broker: Any, storage: Any) -> None:
        super().__init__(broker, storage)
        self.go_on = anyio.Event()
        self.fails = False

    async def run_task(self, params: Any) -> None:
        await self.storage.update_task(params["id"], state="working")
        await self.go_on.wait()
        if self.fails:
            raise ValueError("no ink")
        await self.storage.update_task(params["id"], state="completed")

    async def cancel_task(self, params: Any) -> None:
        raise NotImplementedError

    def build_message_history(self, history: Any) -> list[Any]:
        return []

    def build_artifacts(self, result: Any) -> list[Any]:
        return []


def painting() -> tuple[FastA2A, Painter]:
    storage: InMemoryStorage[Any] = InMemoryStorage()
    broker = InMemoryBroker()
    worker = Painter(broker, storage)

    @asynccontextmanager
    async def lifespan(app: FastA2A) -> AsyncIterator[None]:
        async with app.task_manager, worker.run():
            yield

    return FastA2A(storage=storage, broker=broker, lifespan=lifespan), worker


def send(client: TestClient) -> None:
    message = {
        "role": "user",
        "kind": "message",
        "messageId": "m-1",
        "parts": [{"kind": "text", "text": "draw"}],
    }
    answer = client.post(
        "/",
        json={"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}},
    )
    assert "result" in answer.json(), answer.text


@pytest.mark.parametrize("fails", [False, True])
def test_the_worker_is_what_works(fails: bool, ops_core: ScriptedOpsCore) -> None:
    app, worker = painting()
    worker.fails = fails
    with TestClient(watched(app, ops_core)) as client:
        send(client)
        # The request is over long before the work.
        ops_core.wait_for(*LIFE, "active")
        assert client.portal is not None
        client.portal.call(worker.go_on.set)
        reports = ops_core.wait_for(*LIFE, "active", "error" if fails else "idle")
    if fails:
        error = {"type": "ValueError", "message": "no ink", "where": "Painter.run_task"}
        assert error.items() <= reports[-1]["details"]["error"].items()
