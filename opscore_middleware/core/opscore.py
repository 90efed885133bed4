"""Ops-Core's use cases, one object: what the HTTP routes, the CLI and tests call."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence

from opscore_middleware.core import cursors
from opscore_middleware.core.clock import Clock, system_clock
from opscore_middleware.core.doubt import Doubt, consider, trusted
from opscore_middleware.core.fleet import Fleet, fleet_from
from opscore_middleware.core.headcounts import Headcounts
from opscore_middleware.core.lifecycle import (
    agent_from_record,
    check_extra_states,
    prepare_heartbeat,
    prepare_report,
    state_from_record,
)
from opscore_middleware.core.liveness import DEAF_AFTER, NEVER, Watermark
from opscore_middleware.core.models import (
    Agent,
    AgentQuery,
    AgentStateView,
    BatchAccepted,
    Heartbeat,
    HeartbeatAnswer,
    HistoryQuery,
    Order,
    Page,
    Registration,
    StateReport,
    Transition,
)
from opscore_middleware.core.opscore_sessions import Sessions
from opscore_middleware.core.records import AgentRecord, Once, ReportOutcome
from opscore_middleware.core.refusals import (
    CANDIDATES,
    deregistered_agent,
    unknown_agent,
)
from opscore_middleware.core.runs.records import Creation, answering
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.states import AgentState
from opscore_middleware.core.store import Registered, Store
from opscore_middleware.core.tally import Tally
from opscore_middleware.core.watch import EventId, WatchedState
from opscore_middleware.errors import AgentNotFound, NotReady

__all__ = ["OpsCore"]


class OpsCore(Sessions):
    """Tracks the state of agents in a store.

    Args:
        store: where everything is kept; opened and closed by the caller.
        clock: returns now, in microseconds since the Unix epoch.
        extra_states: states that agents may report beyond Ops-Core's own; never idle.
    """

    def __init__(
        self, store: Store, *, clock: Clock = system_clock, extra_states: Collection[str] = ()
    ) -> None:
        super().__init__(store, clock)
        self._extra_states = check_extra_states(extra_states)
        self._mark: Watermark | None = None
        self._heard: Watermark | None = None
        self._ticked_at: int | None = None
        self.doubt: Doubt | None = None
        self.tally = Tally()
        self._headcounts = Headcounts(store, clock)

    async def tick(self) -> None:
        """Note that Ops-Core is listening; to be called each second while it is.

        Silence of agents counts only as long as this goes on, so without it nobody is ever lost.
        """
        now = self._clock()
        heard = await self.store.watermark(now=now)
        self.doubt = await self._considered(heard)
        self._heard, self._mark = heard, trusted(self.doubt, heard)
        self._ticked_at = now
        self.tally.look(now)

    @property
    def mark(self) -> Watermark | None:
        """Since when, and until when, agents were listened to; None before the first look."""
        return self._mark

    async def _considered(self, heard: Watermark) -> Doubt | None:
        before = self._heard if self.doubt is None else self.doubt.mark
        if before is None or before.since != heard.since:
            return None  # listening has just begun, so nobody is lost yet
        census = await self.store.census(before=before, mark=heard)
        return consider(self.doubt, before, heard, census)

    async def check_ready(self) -> None:
        """Return when Ops-Core can do its work: it listens, and its store answers.

        Raises `NotReady` or `StoreUnavailable`, saying why not.
        """
        if self._ticked_at is None or self._clock() - self._ticked_at > DEAF_AFTER:
            raise NotReady(
                "Ops-Core has not noted for more than five seconds that it is listening; its log "
                "has the reason under loop_failed, if there is one."
            )
        await self.store.ping()

    # --- agents ----------------------------------------------------------------------------------

    async def register(
        self,
        registration: Registration,
        *,
        route: Route | None = None,
        creation: Creation | None = None,
    ) -> tuple[Agent, bool]:
        """Make an agent known; the same name gets the same id again.

        Returns the agent and whether it was new. `route` is the way to it that is known to work.
        With `creation`, raises as `core.runs.store.RunStore` says; what is answered is handed this
        verb's result.
        """

        def answer(registered: Registered) -> tuple[Agent, bool]:
            return agent_from_record(registered.agent, self._mark), registered.created

        registered = await self.store.register(
            registration,
            new_id=str(uuid.uuid4()),
            now=self._clock(),
            route=route,
            creation=answering(creation, answer),
        )
        assert registered is not None  # noqa: S101 - only `once` makes it so
        return answer(registered)

    async def register_once(self, registration: Registration, once: Once | None) -> bool:
        """Register as told by AgentKit, maybe twice; False when it had been told before."""
        registered = await self.store.register(
            registration,
            new_id=str(uuid.uuid4()),
            now=self._clock(),
            route=Route.AGENTKIT,
            once=once,
        )
        return registered is not None

    async def deregister(self, agent_id: str) -> None:
        """Take an agent out on purpose: it cannot report until it is registered again.

        Its state and history stay. Doing it again is fine. Raises `AgentNotFound`.
        """
        outcome = await self.store.deregister(agent_id, now=self._clock())
        if outcome is ReportOutcome.UNKNOWN_AGENT:
            raise unknown_agent(agent_id)

    async def deregister_once(self, agent_id: str, once: Once | None) -> bool:
        """Deregister as told by a message that may come twice; False when nothing was to do."""
        outcome = await self.store.deregister(agent_id, now=self._clock(), once=once)
        return outcome is ReportOutcome.ACCEPTED

    async def deregister_overdue(self) -> Sequence[str]:
        """Take out the agents that have been lost for as long as they wanted; return their ids."""
        if self._mark is None:
            return ()
        return await self.store.deregister_overdue(mark=self._mark, now=self._clock())

    async def heartbeat(self, agent_id: str, beat: Heartbeat) -> HeartbeatAnswer:
        """Take an instance's sign of life, and tell it what Ops-Core knows of it.

        Raises `AgentNotFound` or `AgentDeregistered`.
        """
        known = await self.store.heartbeat(
            prepare_heartbeat(beat, agent_id=agent_id, now=self._clock())
        )
        _refuse_strangers(agent_id, known.outcome)
        self.tally.heartbeats += 1
        return HeartbeatAnswer(
            state=known.state,
            last_sequence=known.last_sequence,
            interval_seconds=beat.interval_seconds,
        )

    # --- reports ---------------------------------------------------------------------------------

    async def report(self, agent_id: str, report: StateReport) -> ReportOutcome:
        """Take one report; returns once it is on disk.

        Raises `AgentIdMismatch`, `InvalidState`, `AgentNotFound` or `AgentDeregistered`.
        """
        prepared = prepare_report(
            report, agent_id=agent_id, now=self._clock(), extra_states=self._extra_states
        )
        (outcome,) = await self.store.apply_reports((prepared,))
        _refuse_strangers(agent_id, outcome)
        if outcome is ReportOutcome.ACCEPTED:
            self.tally.accepted += 1
        else:
            self.tally.duplicates += 1
        return outcome

    async def report_batch(self, agent_id: str, reports: Sequence[StateReport]) -> BatchAccepted:
        """Take several reports of one agent, all or none; returns once they are on disk.

        Raises as `report` does.
        """
        now = self._clock()
        prepared = [
            prepare_report(report, agent_id=agent_id, now=now, extra_states=self._extra_states)
            for report in reports
        ]
        outcomes = await self.store.apply_reports(prepared, whole=True)
        for outcome in outcomes:
            _refuse_strangers(agent_id, outcome)
        accepted = sum(outcome is ReportOutcome.ACCEPTED for outcome in outcomes)
        self.tally.accepted += accepted
        self.tally.duplicates += len(outcomes) - accepted
        return BatchAccepted(accepted=accepted, duplicates=len(outcomes) - accepted)

    # --- what is known ---------------------------------------------------------------------------

    async def is_known(self, agent_id: str) -> bool:
        """Tell whether an agent was ever registered under an id, deregistered or not."""
        return await self.store.get_agent(agent_id) is not None

    async def agent(self, agent_id: str) -> Agent:
        """Return one agent with its instances. Raises `AgentNotFound` or `AgentDeregistered`."""
        return agent_from_record(await self._record(agent_id), self._mark)

    async def agent_state(self, agent_id: str) -> AgentStateView:
        """Return an agent's current state. Raises `AgentNotFound` or `AgentDeregistered`."""
        return state_from_record(await self._record(agent_id), self._mark)

    async def fleet(self) -> Fleet:
        """Return all agents at a glance; of a large fleet, one of a moment ago."""
        headcount = await self._headcounts.take(self._mark or NEVER)
        return fleet_from(
            headcount,
            reports_per_second=self.tally.reports_per_second,
            doubt=self.doubt,
        )

    async def name_of(self, agent_id: str) -> str | None:
        """Return the name of an agent, deregistered or not; None where there never was one."""
        record = await self.store.get_agent(agent_id)
        return None if record is None else record.agent_name

    async def agents(
        self, query: AgentQuery | None = None, *, sees: Callable[[str], bool] | None = None
    ) -> Page[Agent]:
        """List agents by name, those alone whose name `sees` says yes to.

        Raises `InvalidCursor`.
        """
        query = query or AgentQuery()
        after = cursors.name_and_id(query.cursor)
        found: list[Agent] = []
        # The state is folded, not stored, so a page that filters by it reads on until it is full,
        # of those who have an instance in it. Who has reported nothing is unknown without any.
        wanted = None if query.state is None else query.state.lower()
        reported = None if wanted == AgentState.UNKNOWN.lower() else wanted
        while True:
            records = await self.store.list_agents(
                name=query.name,
                capability=query.capability,
                after=after,
                limit=query.limit + 1,
                state=reported,
            )
            for record in records:
                if len(found) == query.limit:
                    # Of the last one that is shown: others may not be for the caller to know of.
                    position = [found[-1].agent_name, found[-1].agent_id]
                    return Page(items=found, next_cursor=cursors.encode(position))
                after = (record.agent_name, record.agent_id)
                if sees is not None and not sees(record.agent_name):
                    continue
                agent = agent_from_record(record, self._mark)
                if wanted is None or agent.state.lower() == wanted:
                    found.append(agent)
            if len(records) <= query.limit:
                return Page(items=found)

    async def history(self, agent_id: str, query: HistoryQuery | None = None) -> Page[Transition]:
        """List an agent's transitions in the order in which they arrived.

        Raises `AgentNotFound` or `InvalidCursor`. A deregistered agent keeps its history.
        """
        query = query or HistoryQuery()
        after = cursors.event_id(query.cursor)
        rows = await self.store.history(
            agent_id, order=query.order, after=after, limit=query.limit + 1
        )
        if not rows and not await self.is_known(agent_id):
            raise await self._unknown(agent_id)
        items = list(rows[: query.limit])
        more = len(rows) > query.limit
        return Page(items=items, next_cursor=cursors.encode(items[-1].event_id) if more else None)

    # --- events ----------------------------------------------------------------------------------

    async def has_events(self, agent_id: str, *, after: EventId) -> bool:
        """Tell whether an agent has an event with an id above `after`."""
        return bool(await self.store.history(agent_id, order=Order.ASC, after=after, limit=1))

    async def watched_state(self, agent_id: str) -> WatchedState:
        """Return an agent's current state and the last event that it surely accounts for.

        Raises as `agent_state` does.
        """
        event_id = await self.store.last_event_id()
        return WatchedState(**dict(await self.agent_state(agent_id)), event_id=event_id)

    async def forget_instances(self, *, keep: int) -> int:
        """Let go of instances that were finished or lost for longer than `keep`, in microseconds.

        Returns how many.
        """
        if self._mark is None:
            return 0
        now = self._clock()
        return await self.store.forget_instances(mark=self._mark, before=now - keep, now=now)

    async def prune_history(self, *, keep: int, limit: int = 1000) -> int:
        """Forget transitions that were received longer ago than `keep`, in microseconds.

        Returns how many were forgotten, at most `limit`; so many mean that there may be more.
        """
        return await self.store.prune_history(before=self._clock() - keep, limit=limit)

    async def _record(self, agent_id: str) -> AgentRecord:
        record = await self.store.get_agent(agent_id)
        if record is None:
            raise await self._unknown(agent_id)
        if record.deregistered_at is not None:
            raise deregistered_agent(agent_id)
        return record

    async def _unknown(self, agent_id: str) -> AgentNotFound:
        # Only for those who ask: an agent that reports needs no advice, and may be one of many.
        known = await self.store.list_agents(
            name=None, capability=None, after=None, limit=CANDIDATES
        )
        return unknown_agent(agent_id, known)


def _refuse_strangers(agent_id: str, outcome: ReportOutcome) -> None:
    if outcome is ReportOutcome.UNKNOWN_AGENT:
        raise unknown_agent(agent_id)
    if outcome is ReportOutcome.DEREGISTERED:
        raise deregistered_agent(agent_id)
