"""Agents on FastA2A: what its worker runs is the work, not the requests that queue it."""

from __future__ import annotations

import sys
from typing import Any

from opscore_middleware.agent.integrations.protocol import OpenUnit
from opscore_middleware.agent.integrations.wrapping import require_version, wrap_overrides

__all__ = ["FastA2A"]


class FastA2A:
    """Opens a unit for each call of `Worker.run_task`; it fails with an exception."""

    name = "fasta2a"
    module = "fasta2a.worker"

    def attach(self, open_unit: OpenUnit) -> None:
        """Wrap `run_task` of every worker."""
        require_version("fasta2a", 2)

        async def run_task(method: Any, worker: Any, params: Any) -> Any:
            with open_unit(f"{type(worker).__qualname__}.run_task"):
                return await method(worker, params)

        wrap_overrides(sys.modules[self.module].Worker, "run_task", run_task)
