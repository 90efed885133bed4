"""The default store: SQLite, in a file for one process, or in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from opscore_middleware.core.clock import to_micros
from opscore_middleware.core.doubt import Census
from opscore_middleware.core.fleet import Headcount
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
from opscore_middleware.core.store import Registered
from opscore_middleware.core.watch import EventRecord
from opscore_middleware.stores import (
    sqlite_agents,
    sqlite_events,
    sqlite_fleet,
    sqlite_liveness,
    sqlite_sessions,
)
from opscore_middleware.stores.sqlite_creations import created
from opscore_middleware.stores.sqlite_run_store import SqliteRunStore

__all__ = ["SqliteStore"]


class SqliteStore(SqliteRunStore):
    """Keeps the promises of `core.store.Store` and `core.runs.store.RunStore` on SQLite, for
    asyncio.

    Writes are gathered by one thread, reads of a file go beside it. A file serves one process.

    Args:
        path: the file, or `:memory:`.
        busy_timeout: how long to wait for another program that holds the file, in seconds.
    """

    # --- agents ----------------------------------------------------------------------------------

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
        register = partial(
            sqlite_agents.register,
            registration=registration,
            new_id=new_id,
            now=now,
            route=route,
            once=once,
        )
        return await self._open_writer().run(
            partial(created, create=register, creation=creation, now=now)
        )

    async def deregister(
        self, agent_id: str, *, now: int, once: Once | None = None
    ) -> ReportOutcome | None:
        return await self._open_writer().run(
            partial(sqlite_agents.deregister, agent_id=agent_id, now=now, once=once)
        )

    async def deregister_overdue(self, *, mark: Watermark, now: int) -> Sequence[str]:
        return await self._open_writer().run(
            partial(sqlite_fleet.deregister_overdue, mark=mark, now=now)
        )

    async def heartbeat(self, beat: StoredHeartbeat) -> HeartbeatOutcome:
        return await self._open_writer().beat(beat)

    async def watermark(self, *, now: int) -> Watermark:
        return await self._open_writer().run(partial(sqlite_liveness.watermark, now=now))

    async def census(self, *, before: Watermark, mark: Watermark) -> Census:
        return await self._reads().run(partial(sqlite_fleet.census, before=before, mark=mark))

    async def headcount(self, *, mark: Watermark) -> Headcount:
        return await self._reads().run(partial(sqlite_fleet.count_fleet, mark=mark))

    async def apply_reports(
        self, reports: Sequence[StoredReport], *, whole: bool = False
    ) -> Sequence[ReportOutcome]:
        return await self._open_writer().report(reports, whole=whole)

    async def get_agent(self, agent_id: str) -> AgentRecord | None:
        return await self._reads().run(partial(sqlite_agents.get_agent, agent_id=agent_id))

    async def list_agents(
        self,
        *,
        name: str | None,
        capability: str | None,
        after: tuple[str, str] | None,
        limit: int,
        state: str | None = None,
    ) -> Sequence[AgentRecord]:
        return await self._reads().run(
            partial(
                sqlite_agents.list_agents,
                name=name,
                capability=capability,
                after=after,
                limit=limit,
                state=state,
            )
        )

    async def history(
        self, agent_id: str, *, order: Order, after: int | None, limit: int
    ) -> Sequence[Transition]:
        return await self._reads().run(
            partial(sqlite_agents.history, agent_id=agent_id, order=order, after=after, limit=limit)
        )

    # --- events ----------------------------------------------------------------------------------

    async def events(
        self, *, after: int, limit: int, max_size: int, agent_id: str | None = None
    ) -> Sequence[EventRecord]:
        return await self._reads().run(
            partial(
                sqlite_events.events,
                after=after,
                limit=limit,
                max_size=max_size,
                agent_id=agent_id,
            )
        )

    async def first_event_id(self) -> int:
        return await self._reads().run(sqlite_events.first_event_id)

    async def last_event_id(self) -> int:
        return await self._reads().run(sqlite_events.last_event_id)

    async def wait_for_events(self, timeout: float, *, after: int) -> int:
        # One process writes to the file, so what it has committed is all there is.
        return await self._bell.wait(timeout, after=after)

    async def forget_instances(self, *, mark: Watermark, before: int, now: int) -> int:
        return await self._open_writer().run(
            partial(sqlite_fleet.forget_instances, mark=mark, before=before, now=now)
        )

    async def prune_history(self, *, before: int, limit: int) -> int:
        return await self._open_writer().run(
            partial(sqlite_events.prune, before=before, limit=limit)
        )

    # --- sessions --------------------------------------------------------------------------------

    async def start_session(
        self, session: Session, *, creation: Creation | None = None
    ) -> tuple[Session, bool]:
        start = partial(sqlite_sessions.start_session, new=session)
        now = to_micros(session.created_at)
        return await self._open_writer().run(
            partial(created, create=start, creation=creation, now=now)
        )

    async def update_session(
        self, session_id: str, change: Callable[[Session], Session]
    ) -> Session | None:
        writer = self._open_writer()
        return await writer.run(
            partial(
                sqlite_sessions.update_session,
                runs=writer.runs,
                session_id=session_id,
                change=change,
            )
        )

    async def get_session(self, session_id: str) -> Session | None:
        return await self._reads().run(partial(sqlite_sessions.get_session, session_id=session_id))

    async def list_sessions(
        self, *, agent_id: str | None, state: str | None, after: tuple[int, str] | None, limit: int
    ) -> Sequence[Session]:
        return await self._reads().run(
            partial(
                sqlite_sessions.list_sessions,
                agent_id=agent_id,
                state=state,
                after=after,
                limit=limit,
            )
        )
