"""What Ops-Core asks of a database: few verbs, each atomic, none a read that a write depends on.

Two stores keep this promise (`opscore_middleware.stores`), and one behaviour suite holds them to
it. All times are microseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from opscore_middleware.core.doubt import Census
from opscore_middleware.core.fleet import Headcount
from opscore_middleware.core.histogram import Histogram
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.models import Order, Registration, Transition
from opscore_middleware.core.records import (
    AgentRecord,
    HeartbeatOutcome,
    Once,
    ReportOutcome,
    StoredHeartbeat,
    StoredReport,
)
from opscore_middleware.core.runs.records import Creation
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.sessions import Session
from opscore_middleware.core.watch import EventRecord

__all__ = ["COMMIT_SIZES", "CountingStore", "Registered", "Store", "WakingStore"]


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

    async def ping(self) -> None:
        """Return once the database has answered on the way that writes take."""
        ...

    async def register(
        self,
        registration: Registration,
        *,
        new_id: str,
        now: int,
        route: Route | None = None,
        once: Once | None = None,
        creation: Creation | None = None,
    ) -> Registered | None:
        """Add an agent, or update the one that is known by that id, or else by that name.

        `new_id` is used when neither is known. An id that is given wins over the name; without
        one, the agent that was registered last under the name is the one. State and history stay.
        Registering revives an agent that was deregistered. With an `instance_id` the contact
        endpoint belongs to that instance, and the agent's own is set only where it has none.

        `route` is the one to try first from now on; None leaves it as it is. With `once`, in the
        same transaction: None, and nothing done, where that was done before. With `creation` as
        `core.runs.store.RunStore` says.
        """
        ...

    async def deregister(
        self, agent_id: str, *, now: int, once: Once | None = None
    ) -> ReportOutcome | None:
        """Take an agent out on purpose; its state and history stay, and registering revives it.

        Returns `ACCEPTED`, `UNKNOWN_AGENT`, or `DEREGISTERED` where it was out already. `once` as
        in `register`.
        """
        ...

    async def deregister_overdue(self, *, mark: Watermark, now: int) -> Sequence[str]:
        """Take out the agents that have been lost for as long as they wanted, and return their ids.

        Which those are says `core.liveness.is_overdue`.
        """
        ...

    async def heartbeat(self, beat: StoredHeartbeat) -> HeartbeatOutcome:
        """Note that an instance lives, and return what is known of it.

        Makes the instance known, in state `UNKNOWN`, where it was not; never changes a state, a
        sequence or the history. The outcome is `UNKNOWN_AGENT` or `DEREGISTERED`, with nothing
        written, for an agent that cannot report, else `ACCEPTED`.
        """
        ...

    async def watermark(self, *, now: int) -> Watermark:
        """Move the watermark on as `core.liveness.advance` says, for all replicas; return it."""
        ...

    async def census(self, *, before: Watermark, mark: Watermark) -> Census:
        """Count the instances that were not lost by `before`, by what `mark` says of them.

        Those of deregistered agents, finished ones and those that send no heartbeats left out.
        """
        ...

    async def headcount(self, *, mark: Watermark) -> Headcount:
        """Count the agents that are not deregistered, alike ones together.

        Who is late or lost goes by `mark`, as `core.liveness.liveness` says.
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
        state: str | None = None,
    ) -> Sequence[AgentRecord]:
        """List agents that are not deregistered, by (name, id); `after` is the last such pair.

        `state`, whatever its case, leaves out those none of whose instances is in it.
        """
        ...

    async def history(
        self, agent_id: str, *, order: Order, after: int | None, limit: int
    ) -> Sequence[Transition]:
        """List an agent's transitions by event id; `after` is the last id of the page before."""
        ...

    async def events(
        self, *, after: int, limit: int, max_size: int, agent_id: str | None = None
    ) -> Sequence[EventRecord]:
        """List the events of all agents, or of one, whose ids are above `after`, by id.

        At most `limit` of them, and none after the one whose details bring them to `max_size`
        characters; so fewer than that, and smaller, are all there are. Ids become visible in their
        order: whoever has seen one will find no new one below it. Ids may be left out.
        """
        ...

    async def first_event_id(self) -> int:
        """Return the lowest id of the events that are kept, the next one to come when none is."""
        ...

    async def last_event_id(self) -> int:
        """Return the highest id that an event was ever given, 0 when none was."""
        ...

    async def forget_instances(self, *, mark: Watermark, before: int, now: int) -> int:
        """Let go of instances not heard of since `before`: finished ones and lost ones.

        They show no more, until they are heard of again; their history stays, and what was last
        given to them or stopped is forgotten. An agent keeps the one that it was heard of through
        last, since its state is taken from there. Returns how many were let go of.
        """
        ...

    async def prune_history(self, *, before: int, limit: int) -> int:
        """Delete events that were received before a time, the oldest first; return how many.

        At most `limit` are looked at. States stay as they are, and no event id is given again.
        """
        ...

    async def start_session(
        self, session: Session, *, creation: Creation | None = None
    ) -> tuple[Session, bool]:
        """Keep a new session; where its id is known, return the one that is kept instead.

        Returns the session and whether it is new. With `creation` as `core.runs.store.RunStore`
        says.

        Raises `AgentNotFound` or `AgentDeregistered` for its agent.
        """
        ...

    async def update_session(
        self, session_id: str, change: Callable[[Session], Session]
    ) -> Session | None:
        """Apply a pure change to a session, with nobody else's in between; None when unknown.

        What `change` raises, the caller gets, and nothing is written.
        """
        ...

    async def get_session(self, session_id: str) -> Session | None:
        """Return a session, or None when it was never started."""
        ...

    async def list_sessions(
        self, *, agent_id: str | None, state: str | None, after: tuple[int, str] | None, limit: int
    ) -> Sequence[Session]:
        """List sessions, newest first, by (created_at in microseconds, id), `after` that pair."""
        ...


@runtime_checkable
class WakingStore(Protocol):
    """What a store may offer beyond its verbs: to wake whoever waits for events."""

    async def wait_for_events(self, timeout: float, *, after: int) -> int:
        """Return when there may be new events, at the latest after `timeout` seconds.

        For any number of callers: each hands in what it was answered last, 0 at first, so that
        nothing slips between a look and the next wait. Returning for nothing is fine.
        """
        ...


COMMIT_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""The bounds by which a store counts how many callers share a commit."""


@runtime_checkable
class CountingStore(Protocol):
    """A store that counts its commits, for those who measure."""

    commits: Histogram
    """How many callers shared each."""
