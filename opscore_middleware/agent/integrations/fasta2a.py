"""Agents on FastA2A: what its worker runs is the work, not the requests that queue it."""

from __future__ import annotations

import sys
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint
from pydantic import TypeAdapter

from opscore_middleware.agent.envelopes import find_failure
from opscore_middleware.agent.integrations.jobs import Jobs
from opscore_middleware.agent.integrations.protocol import OpenUnit, WorkUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_overrides

__all__ = ["FastA2A"]

_FAILED: Final = frozenset({"failed", "rejected"})


class FastA2A:
    """Opens a unit for each call of `Worker.run_task`, which ends the task of its request.

    It fails with an exception, and where the worker leaves its A2A task failed or rejected. Else
    that task, as it is in the storage then, is what the work has come to.
    """

    name = "fasta2a"
    module = "fasta2a.worker"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap `run_task` of every broker, which queues, and of every worker, which works."""
        require_version("fasta2a", 2)
        jobs = Jobs(open_unit)
        task: Any = sys.modules["fasta2a.schema"].Task
        in_json: TypeAdapter[Any] = TypeAdapter(task)

        async def put(method: Any, broker: Any, params: Any) -> Any:
            jobs.put(params["id"])
            try:
                answer = await method(broker, params)
            except BaseException:
                jobs.forget(params["id"])
                raise
            # A worker that is free takes it, and begins: that is no wait.
            await checkpoint()
            await checkpoint()
            jobs.accepted(params["id"])
            return answer

        async def run_task(method: Any, worker: Any, params: Any) -> None:
            ended: list[Exception | None] = []

            async def work() -> None:
                try:
                    with jobs.unit(params["id"], f"{type(worker).__qualname__}.run_task") as unit:
                        await method(worker, params)
                        await _look(unit, worker, params["id"], in_json)
                except Exception as error:
                    ended.append(error)
                else:
                    ended.append(None)

            # In a task of its own: cancelling the work must not end the worker, which has but one.
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
            if not ended:
                await worker.storage.update_task(params["id"], state="canceled")
            elif ended[0] is not None:
                raise ended[0]

        wrap_overrides(sys.modules["fasta2a.broker"].Broker, "run_task", put)
        wrap_overrides(sys.modules[self.module].Worker, "run_task", run_task)


async def _look(unit: WorkUnit, worker: Any, task_id: str, in_json: TypeAdapter[Any]) -> None:
    """Tell a unit how its A2A task has ended, by what the worker has left in the storage."""
    try:
        task = await worker.storage.load_task(task_id)
        state = task["status"]["state"]
        told = in_json.dump_json(task, by_alias=True, warnings=False)
    except Exception:
        unit.come_to(None)  # somebody's own storage; the framework will see to it
        return
    if state in _FAILED:
        failure = find_failure({"jsonrpc": "2.0", "result": task})
        unit.fail(f"A2A {state}" if failure is None else failure)
    elif state == "canceled":
        unit.break_off()
    else:
        unit.come_to(told)
