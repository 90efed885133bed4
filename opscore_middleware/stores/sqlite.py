"""The default store: SQLite, in a file for one process, or in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

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
from opscore_middleware.core.sessions import Session
from opscore_middleware.core.store import COMMIT_SIZES, Registered
from opscore_middleware.core.watch import EventRecord
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores import (
    sqlite_agents,
    sqlite_events,
    sqlite_fleet,
    sqlite_liveness,
    sqlite_sessions,
)
from opscore_middleware.stores.bell import Bell
from opscore_middleware.stores.schema import SchemaStatus, status_of, steps
from opscore_middleware.stores.sqlite_file import SqliteFile
from opscore_middleware.stores.sqlite_readers import SqliteReaders
from opscore_middleware.stores.sqlite_writer import SqliteWriter

__all__ = ["SqliteStore"]

T = TypeVar("T")


class _Reads(Protocol):
    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T: ...


class SqliteStore:
    """Keeps `core.store.Store`'s promise on SQLite, for asyncio.

    Writes are gathered by one thread, reads of a file go beside it. A file serves one process.

    Args:
        path: the file, or `:memory:`.
        busy_timeout: how long to wait for another program that holds the file, in seconds.
    """

    name = "sqlite"

    def __init__(self, path: str, *, busy_timeout: float = 5.0) -> None:
        self.commits = Histogram(COMMIT_SIZES)
        self._file = SqliteFile(path, busy_timeout=busy_timeout)
        self._writer: SqliteWriter | None = None
        self._readers: SqliteReaders | None = None
        self._bell = Bell()

    def __repr__(self) -> str:
        return f"SqliteStore({self._file.path!r})"

    async def open(self) -> None:
        await asyncio.to_thread(self._open)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    async def schema(self) -> SchemaStatus:
        found = await asyncio.to_thread(self._file.schema_version)
        path = self._file.path
        return status_of(self.name, f"sqlite:///{path}", found=found, known=steps("sqlite"))

    async def ping(self) -> None:
        await self._open_writer().run(lambda connection: connection.execute("SELECT 1").fetchone())

    # --- agents ----------------------------------------------------------------------------------

    async def register(
        self, registration: Registration, *, new_id: str, now: int, once: Once | None = None
    ) -> Registered | None:
        return await self._open_writer().run(
            partial(
                sqlite_agents.register,
                registration=registration,
                new_id=new_id,
                now=now,
                once=once,
            )
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

    async def start_session(self, session: Session) -> tuple[Session, bool]:
        return await self._open_writer().run(partial(sqlite_sessions.start_session, new=session))

    async def update_session(
        self, session_id: str, change: Callable[[Session], Session]
    ) -> Session | None:
        return await self._open_writer().run(
            partial(sqlite_sessions.update_session, session_id=session_id, change=change)
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

    # --- what it stands on -----------------------------------------------------------------------

    def _open_writer(self) -> SqliteWriter:
        if self._writer is None:
            raise StoreUnavailable("The store is not open; call open() first.")
        return self._writer

    def _reads(self) -> _Reads:
        return self._readers or self._open_writer()

    def _open(self) -> None:
        connection = self._file.open()
        self._writer = SqliteWriter(
            connection,
            explain=self._file.unavailable,
            reported=self._bell.ring,
            commits=self.commits,
        )
        if not self._file.in_memory:
            self._readers = SqliteReaders(self._file.connect, explain=self._file.unavailable)

    def _close(self) -> None:
        # The readers first: the last connection to close puts the log into the file.
        if self._readers is not None:
            self._readers.close()
        if self._writer is not None:
            self._writer.close()
        self._file.release()
