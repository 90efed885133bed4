"""Whether an instance may be given a task: something else than its state."""

from __future__ import annotations

import json
from typing import Final

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark, liveness
from opscore_middleware.core.models import Liveness
from opscore_middleware.core.records import InstanceRecord
from opscore_middleware.core.states import AgentState

__all__ = ["QUIET_AFTER_ERROR", "is_available"]

QUIET_AFTER_ERROR: Final = 60 * SECOND
"""How long after its last report an instance in `error` may have a task again where it gives no
sequence: such agents may never say `idle` after a failure. Microseconds."""


def is_available(instance: InstanceRecord, mark: Watermark | None, now: int) -> bool:
    """Tell whether an instance may be given a task, as far as it and its silence show.

    It is heard from, and idle, or in `error` with nothing in flight: our middleware goes on to
    `active` where other work is, so its `error` always means that, unless its startup has failed.
    Whether its slot is free is for the store to say.
    """
    if liveness(instance, mark) is not Liveness.ALIVE:
        return False
    if instance.state == AgentState.IDLE:
        return True
    if instance.state != AgentState.ERROR:
        return False
    if instance.sequence is None:
        return instance.last_seen_at <= now - QUIET_AFTER_ERROR
    return not _failed_to_start(instance.details)


def _failed_to_start(details: str | None) -> bool:
    try:
        said = json.loads(details or "null")
    except ValueError:
        return False
    error = said.get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and error.get("phase") == "startup"
