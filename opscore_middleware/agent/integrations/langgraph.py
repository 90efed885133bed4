"""LangGraph's server with the runtime in memory: what its workers run is the work."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from typing import Any

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.integrations.jobs import Jobs
from opscore_middleware.agent.integrations.protocol import OpenUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_method

__all__ = ["LangGraph"]

_STOPPED = frozenset({"interrupted", "rollback"})


class LangGraph:
    """Opens a unit for each attempt of a worker at a run; it fails with what the graph raises.

    An attempt that is to be repeated has neither failed nor ended the run.
    """

    name = "langgraph"
    module = "langgraph_runtime_inmem.queue"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap where runs are put into the queue, and where a worker takes one."""
        require_version("langgraph-api", "0.16")
        require_version("langgraph-runtime-inmem", "0.36")
        jobs = Jobs(open_unit)

        async def put(method: Any, /, *args: Any, **more: Any) -> AsyncIterator[Any]:
            run_id = str(more.get("run_id"))
            jobs.put(run_id)
            return _put(await method(*args, **more), run_id, jobs)

        async def work(method: Any, run: Any, /, *args: Any, **more: Any) -> Any:
            run_id = str(run["run_id"])
            asked = run["kwargs"].get("config", {}).get("configurable", {})
            name = f"graph {asked.get('graph_id')}"
            with jobs.unit(run_id, name, repeated=Exception) as unit:
                result = await method(run, *args, **more)
                error = result["exception"]
                if result["status"] in _STOPPED:
                    unit.break_off()
                elif error is not None:
                    unit.fail(Failure(type(error).__qualname__, str(error)))
                return result

        ops = importlib.import_module("langgraph_runtime_inmem.ops")
        worker = importlib.import_module("langgraph_api.worker")
        wrap_method(ops.Runs, "put", ("conn", "assistant_id", "kwargs"), put)
        wrap_method(worker, "worker", ("run", "attempt", "main_loop"), work)


async def _put(rows: AsyncIterator[Any], run_id: str, jobs: Jobs) -> AsyncIterator[Any]:
    """Yield the runs of a thread that concern a new one; where it is among them, it is queued."""
    async for row in rows:
        if str(row["run_id"]) == run_id:
            jobs.accepted(run_id)
        yield row
