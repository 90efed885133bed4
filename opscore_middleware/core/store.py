"""What Ops-Core asks of a database: few verbs, each atomic, none a read that a write depends on.

Two stores keep this promise (`opscore_middleware.stores`), and one behaviour suite holds them to
it. All times are microseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from opscore_middleware.core.models import (
    AgentRecord,
    Order,
    Registration,
    ReportOutcome,
    StoredReport,
    Transition,
)

__all__ = ["Registered", "Store"]


class Registered(NamedTuple):
    """A registered agent and whether it was new."""

    agent: AgentRecord
    created: bool


class Store(Protocol):
    """The verbs of a store. Everything raises `StoreUnavailable` when the database is gone."""

    name: str
    """What `/health` shows: `sqlite` or `postgresql`; never the address or a password."""

    async def open(self) -> None:
        """Connect and bring the schema up to date. Opening twice is an error of the caller."""
        ...

    async def close(self) -> None:
        """Write what was accepted and let go of every file, thread and socket. Idempotent."""
        ...

    async def register(self, registration: Registration, *, new_id: str, now: int) -> Registered:
        """Add an agent, or update the one that is known by that id, or else by that name.

        `new_id` is used when neither is known. An id that is given wins over the name; without
        one, the agent that was registered last under the name is the one. State and history stay.
        Registering revives an agent that was deregistered. With an `instance_id` the contact
        endpoint belongs to that instance, and the agent's own is set only where it has none.
        """
        ...

    async def apply_reports(
        self, reports: Sequence[StoredReport], *, whole: bool = False
    ) -> Sequence[ReportOutcome]:
        """Write reports in order and say what became of each; returns once they are on disk.

        A new report always enters the history. It becomes its instance's current state when its
        sequence is higher than any before it; without an instance id or a sequence, when its
        `effective_at` is not older. After `finished` nothing does, for an instance with an id.
        The same (agent, instance, sequence) again changes nothing: `DUPLICATE`. Any report, also a
        repeat, proves that its instance was alive at `received_at`.

        With `whole`, all are written or none: one unknown or deregistered agent and nothing is.
        Reports of concurrent callers share a transaction; one that fails, fails alone.
        """
        ...

    async def get_agent(self, agent_id: str) -> AgentRecord | None:
        """Return an agent with all its instances, deregistered or not; None when never known."""
        ...

    async def list_agents(
        self,
        *,
        name: str | None,
        capability: str | None,
        after: tuple[str, str] | None,
        limit: int,
    ) -> Sequence[AgentRecord]:
        """List agents that are not deregistered, by (name, id); `after` is the last such pair."""
        ...

    async def history(
        self, agent_id: str, *, order: Order, after: int | None, limit: int
    ) -> Sequence[Transition]:
        """List an agent's transitions by event id; `after` is the last id of the page before."""
        ...
