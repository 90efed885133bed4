"""Ops-Core's use cases, one object: what the HTTP routes, the CLI and tests call."""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from opscore_middleware.core.clock import Clock, system_clock
from opscore_middleware.core.lifecycle import (
    agent_from_record,
    check_extra_states,
    prepare_report,
    state_from_record,
)
from opscore_middleware.core.models import (
    Agent,
    AgentQuery,
    AgentRecord,
    AgentStateView,
    BatchAccepted,
    HistoryQuery,
    Page,
    Registration,
    ReportOutcome,
    StateReport,
    Transition,
)
from opscore_middleware.core.store import Store
from opscore_middleware.errors import AgentDeregistered, AgentNotFound, InvalidCursor

__all__ = ["OpsCore"]


class OpsCore:
    """Tracks the state of agents in a store.

    Args:
        store: where everything is kept; opened and closed by the caller.
        clock: returns now, in microseconds since the Unix epoch.
        extra_states: states that agents may report beyond Ops-Core's own; never idle.
    """

    def __init__(
        self, store: Store, *, clock: Clock = system_clock, extra_states: Collection[str] = ()
    ) -> None:
        self.store = store
        self._clock = clock
        self._extra_states = check_extra_states(extra_states)

    async def register(self, registration: Registration) -> tuple[Agent, bool]:
        """Make an agent known; the same name gets the same id again.

        Returns the agent and whether it was new.
        """
        record, created = await self.store.register(
            registration, new_id=str(uuid.uuid4()), now=self._clock()
        )
        return agent_from_record(record), created

    async def report(self, agent_id: str, report: StateReport) -> ReportOutcome:
        """Take one report; returns once it is on disk.

        Raises `AgentIdMismatch`, `InvalidState`, `AgentNotFound` or `AgentDeregistered`.
        """
        prepared = prepare_report(
            report, agent_id=agent_id, now=self._clock(), extra_states=self._extra_states
        )
        (outcome,) = await self.store.apply_reports((prepared,))
        _refuse_strangers(agent_id, outcome)
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
        return BatchAccepted(accepted=accepted, duplicates=len(outcomes) - accepted)

    async def agent(self, agent_id: str) -> Agent:
        """Return one agent with its instances. Raises `AgentNotFound` or `AgentDeregistered`."""
        return agent_from_record(await self._record(agent_id))

    async def agent_state(self, agent_id: str) -> AgentStateView:
        """Return an agent's current state. Raises `AgentNotFound` or `AgentDeregistered`."""
        return state_from_record(await self._record(agent_id))

    async def agents(self, query: AgentQuery | None = None) -> Page[Agent]:
        """List agents by name. Raises `InvalidCursor`."""
        query = query or AgentQuery()
        after = _agents_cursor(query.cursor)
        found: list[Agent] = []
        # The state is folded, not stored, so a page that filters by it reads on until it is full.
        while True:
            records = await self.store.list_agents(
                name=query.name, capability=query.capability, after=after, limit=query.limit + 1
            )
            for record in records:
                if len(found) == query.limit:
                    return Page(items=found, next_cursor=_encode(list(after or ())))
                after = (record.agent_name, record.agent_id)
                agent = agent_from_record(record)
                if query.state is None or agent.state.lower() == query.state.lower():
                    found.append(agent)
            if len(records) <= query.limit:
                return Page(items=found)

    async def history(self, agent_id: str, query: HistoryQuery | None = None) -> Page[Transition]:
        """List an agent's transitions in the order in which they arrived.

        Raises `AgentNotFound` or `InvalidCursor`. A deregistered agent keeps its history.
        """
        query = query or HistoryQuery()
        after = _history_cursor(query.cursor)
        rows = await self.store.history(
            agent_id, order=query.order, after=after, limit=query.limit + 1
        )
        if not rows and await self.store.get_agent(agent_id) is None:
            raise _unknown(agent_id)
        items = list(rows[: query.limit])
        more = len(rows) > query.limit
        return Page(items=items, next_cursor=_encode(items[-1].event_id) if more else None)

    async def _record(self, agent_id: str) -> AgentRecord:
        record = await self.store.get_agent(agent_id)
        if record is None:
            raise _unknown(agent_id)
        if record.deregistered_at is not None:
            raise _deregistered(agent_id)
        return record


def _unknown(agent_id: str) -> AgentNotFound:
    return AgentNotFound(
        f"No agent with id {agent_id!r} is registered here; `opscore agents list` shows the "
        "ones that are, POST /v1/opscore/agents registers one.",
        agent_id=agent_id,
    )


def _deregistered(agent_id: str) -> AgentDeregistered:
    return AgentDeregistered(
        f"Agent {agent_id!r} was deregistered; register it again with POST "
        "/v1/opscore/agents to bring it back.",
        agent_id=agent_id,
    )


def _refuse_strangers(agent_id: str, outcome: ReportOutcome) -> None:
    if outcome is ReportOutcome.UNKNOWN_AGENT:
        raise _unknown(agent_id)
    if outcome is ReportOutcome.DEREGISTERED:
        raise _deregistered(agent_id)


def _encode(position: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _decode(cursor: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        return None


def _bad_cursor(cursor: str) -> NoReturn:
    raise InvalidCursor(
        f"Cursor {cursor!r} is not one that this list handed out; start again without it.",
        cursor=cursor,
    )


def _agents_cursor(cursor: str | None) -> tuple[str, str] | None:
    if cursor is None:
        return None
    match _decode(cursor):
        case [str(name), str(agent_id)]:
            return name, agent_id
    _bad_cursor(cursor)


def _history_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    match _decode(cursor):
        # No database numbers its events beyond 64 bits.
        case int(event_id) if not isinstance(event_id, bool) and 0 <= event_id < 2**63:
            return event_id
    _bad_cursor(cursor)
