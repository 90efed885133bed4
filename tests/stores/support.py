"""Short ways to say what a store is told."""

from __future__ import annotations

from typing import Any

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.models import Order, Registration, Transition
from opscore_middleware.core.records import InstanceRecord, StoredReport
from opscore_middleware.core.store import Store

NOW = 1_800_000_000 * SECOND


async def add(store: Store, agent_id: str = "a", *, now: int = NOW, **fields: Any) -> None:
    """Register an agent under an id, named like it unless told otherwise."""
    registration = Registration(agent_id=agent_id, **{"agent_name": agent_id, **fields})
    await store.register(registration, new_id="unused", now=now)


def said(state: str = "idle", *, at: int = 0, **fields: Any) -> StoredReport:
    """A report of agent `a`'s instance `i`, made and received `at` microseconds after NOW."""
    values: dict[str, Any] = {
        "agent_id": "a",
        "instance_id": "i",
        "sequence": None,
        "details": None,
        "timestamp": NOW + at,
        "effective_at": NOW + at,
        "received_at": NOW + at,
        "started_at": None,
        "coalesced": 0,
        "errors": 0,
        **fields,
    }
    return StoredReport(state=state, **values)


async def instances(store: Store, agent_id: str = "a") -> dict[str | None, InstanceRecord]:
    """An agent's instances by their ids."""
    record = await store.get_agent(agent_id)
    assert record is not None
    return {instance.instance_id: instance for instance in record.instances}


async def told(store: Store, agent_id: str = "a") -> list[Transition]:
    """An agent's whole history, oldest first."""
    return list(await store.history(agent_id, order=Order.ASC, after=None, limit=100_000))
