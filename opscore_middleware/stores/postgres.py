"""The store for several replicas: PostgreSQL, which all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from opscore_middleware.core.clock import Clock, system_clock
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
from opscore_middleware.core.runs.records import Creation, Run
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.core.sessions import Session
from opscore_middleware.core.store import COMMIT_SIZES, Registered
from opscore_middleware.core.watch import EventRecord
from opscore_middleware.errors import OpsCoreError, StoreUnavailable
from opscore_middleware.stores import (
    postgres_agents,
    postgres_events,
    postgres_fleet,
    postgres_sessions,
)
from opscore_middleware.stores.postgres_address import Address
from opscore_middleware.stores.postgres_advances import Answer, RunWriter
from opscore_middleware.stores.postgres_advances import Asked as AskedOfRuns
from opscore_middleware.stores.postgres_connections import Connections
from opscore_middleware.stores.postgres_errors import OPENING_ERRORS, refusal
from opscore_middleware.stores.postgres_files import refuse_missing_service, unreadable_file
from opscore_middleware.stores.postgres_gatherer import Gatherer
from opscore_middleware.stores.postgres_large_runs import LargeRuns
from opscore_middleware.stores.postgres_listener import Listener
from opscore_middleware.stores.postgres_liveness import DatabaseClock, HeartbeatWriter, watermark
from opscore_middleware.stores.postgres_reports import Asked, ReportWriter
from opscore_middleware.stores.postgres_run_store import PostgresRunStore, RunParts
from opscore_middleware.stores.postgres_starts import RunStarter, Started
from opscore_middleware.stores.postgres_tasks import BY_KEYS
from opscore_middleware.stores.postgres_turns import Turns
from opscore_middleware.stores.postgres_upgrade import schema_version, upgrade
from opscore_middleware.stores.postgres_workflows import Definitions
from opscore_middleware.stores.schema import SchemaStatus, status_of, steps

__all__ = ["PostgresStore"]

_GATHERED_CONNECTIONS: Final = 2
_RUN_CONNECTIONS: Final = 3
_OTHER_CONNECTIONS: Final = 4
_OF_FILES: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
_MOST_ROWS: Final = 4096  # of one commit; who comes later waits for the next
_MOST_STEPS: Final = 1024
_MOST_STARTED: Final = 256  # runs and their tasks


class _Opened(NamedTuple):
    """What an open store works with.

    What is gathered has connections of its own, so that no number of readers holds it up.
    """

    gathered: Connections
    others: Connections
    reports: Gatherer[Asked, list[ReportOutcome]]
    heartbeats: Gatherer[StoredHeartbeat, HeartbeatOutcome]
    runs: RunParts
    listener: Listener


class PostgresStore(PostgresRunStore):
    """Keeps the promises of `core.store.Store` and of `core.runs.store.RunStore` on PostgreSQL, on
    the event loop that opened it.

    Any number of stores, in any number of processes, share a database. Times that are kept for
    Ops-Core's own use are the database's, whatever this process's clock says; the times that order
    reports are the ones handed in.

    Args:
        address: where the database is.
        clock: the clock that callers take `now` from.
    """

    name = "postgresql"

    def __init__(self, address: Address, *, clock: Clock = system_clock) -> None:
        self.commits = Histogram(COMMIT_SIZES)
        self.address = address
        self._clock = DatabaseClock(clock)
        self._opened: _Opened | None = None

    def __repr__(self) -> str:
        return f"PostgresStore({self.address.shown!r})"

    async def open(self) -> None:
        refuse_missing_service(self.address)
        opened = self._prepared()
        try:
            for connections in (opened.gathered, opened.runs.by_keys, opened.others):
                await connections.open()
            async with opened.others.raw() as connection:
                await upgrade(connection, self.address.shown, steps("postgres"))
                await self._clock.compare(connection)
        except OPENING_ERRORS as error:
            await _close(opened)
            raise self._refusal(error) from error
        except BaseException:
            await _close(opened)
            raise
        self._opened = opened

    async def close(self) -> None:
        if self._opened is not None:
            await _close(self._opened)

    async def schema(self) -> SchemaStatus:
        known, shown = steps("postgres"), self.address.shown
        refuse_missing_service(self.address)
        connections = Connections(self.address, size=1)
        try:
            await connections.open()
            async with connections.raw() as connection:
                found = await schema_version(connection, shown, known[-1].version)
        except OPENING_ERRORS as error:
            raise self._refusal(error) from error
        finally:
            await connections.close()
        return status_of(self.name, shown, found=found, known=known)

    async def ping(self) -> None:
        await self._open().reports.ask(Asked((), whole=False))

    # --- agents ----------------------------------------------------------------------------------

    async def register(
        self,
        registration: Registration,
        *,
        new_id: str,
        now: int,
        once: Once | None = None,
        route: Route | None = None,
        creation: Creation | None = None,
    ) -> Registered | None:
        opened = self._open()
        async with opened.others.transaction() as connection:
            registered = await postgres_agents.register(
                connection,
                registration=registration,
                new_id=new_id,
                now=self._clock(now),
                once=once,
                route=route,
                creation=creation,
            )
        opened.runs.turns.forget()  # since the agent may be able to do something else
        return registered

    async def deregister(
        self, agent_id: str, *, now: int, once: Once | None = None
    ) -> ReportOutcome | None:
        async with self._open().others.transaction() as connection:
            return await postgres_agents.deregister(
                connection, agent_id=agent_id, now=self._clock(now), once=once
            )

    async def deregister_overdue(self, *, mark: Watermark, now: int) -> Sequence[str]:
        async with self._open().others.connection() as connection:
            return await postgres_fleet.deregister_overdue(
                connection, mark=mark, now=self._clock(now)
            )

    async def heartbeat(self, beat: StoredHeartbeat) -> HeartbeatOutcome:
        heard = beat._replace(received_at=self._clock(beat.received_at))
        return await self._open().heartbeats.ask(heard)

    async def watermark(self, *, now: int) -> Watermark:
        async with self._open().others.transaction() as connection:
            await self._clock.compare(connection)
            return await watermark(connection, now=self._clock(now))

    async def census(self, *, before: Watermark, mark: Watermark) -> Census:
        async with self._open().others.connection() as connection:
            return await postgres_fleet.census(connection, before=before, mark=mark)

    async def headcount(self, *, mark: Watermark) -> Headcount:
        async with self._open().others.connection() as connection:
            return await postgres_fleet.count_fleet(connection, mark=mark)

    async def apply_reports(
        self, reports: Sequence[StoredReport], *, whole: bool = False
    ) -> Sequence[ReportOutcome]:
        if not reports:
            return []
        return await self._open().reports.ask(Asked(self._clock.of_reports(reports), whole))

    async def get_agent(self, agent_id: str) -> AgentRecord | None:
        async with self._open().others.connection() as connection:
            return await postgres_agents.get_agent(connection, agent_id=agent_id)

    async def list_agents(
        self,
        *,
        name: str | None,
        capability: str | None,
        after: tuple[str, str] | None,
        limit: int,
        state: str | None = None,
    ) -> Sequence[AgentRecord]:
        async with self._open().others.connection() as connection:
            return await postgres_agents.list_agents(
                connection,
                name=name,
                capability=capability,
                after=after,
                limit=limit,
                state=state,
            )

    async def history(
        self, agent_id: str, *, order: Order, after: int | None, limit: int
    ) -> Sequence[Transition]:
        async with self._open().others.connection() as connection:
            return await postgres_agents.history(
                connection, agent_id=agent_id, order=order, after=after, limit=limit
            )

    # --- events ----------------------------------------------------------------------------------

    async def events(
        self, *, after: int, limit: int, max_size: int, agent_id: str | None = None
    ) -> Sequence[EventRecord]:
        async with self._open().others.connection() as connection:
            return await postgres_events.events(
                connection, after=after, limit=limit, max_size=max_size, agent_id=agent_id
            )

    async def first_event_id(self) -> int:
        async with self._open().others.connection() as connection:
            return await postgres_events.first_event_id(connection)

    async def last_event_id(self) -> int:
        async with self._open().others.connection() as connection:
            return await postgres_events.last_event_id(connection)

    async def wait_for_events(self, timeout: float, *, after: int) -> int:
        return await self._open().listener.wait(timeout, after=after)

    async def forget_instances(self, *, mark: Watermark, before: int, now: int) -> int:
        async with self._open().others.connection() as connection:
            return await postgres_fleet.forget_instances(
                connection, mark=mark, before=self._clock(before), now=self._clock(now)
            )

    async def prune_history(self, *, before: int, limit: int) -> int:
        async with self._open().others.connection() as connection:
            return await postgres_events.prune(connection, before=self._clock(before), limit=limit)

    # --- sessions --------------------------------------------------------------------------------

    async def start_session(
        self, session: Session, *, creation: Creation | None = None
    ) -> tuple[Session, bool]:
        async with self._open().others.transaction() as connection:
            return await postgres_sessions.start_session(connection, new=session, creation=creation)

    async def update_session(
        self, session_id: str, change: Callable[[Session], Session]
    ) -> Session | None:
        async with self._open().others.transaction() as connection:
            return await postgres_sessions.update_session(
                connection, session_id=session_id, change=change
            )

    async def get_session(self, session_id: str) -> Session | None:
        async with self._open().others.connection() as connection:
            return await postgres_sessions.get_session(connection, session_id=session_id)

    async def list_sessions(
        self, *, agent_id: str | None, state: str | None, after: tuple[int, str] | None, limit: int
    ) -> Sequence[Session]:
        async with self._open().others.connection() as connection:
            return await postgres_sessions.list_sessions(
                connection, agent_id=agent_id, state=state, after=after, limit=limit
            )

    # --- what it stands on -----------------------------------------------------------------------

    def _refusal(self, error: Exception) -> OpsCoreError:
        missing = unreadable_file(self.address) if isinstance(error, _OF_FILES) else None
        return missing or refusal(error, self.address.shown)

    def _prepared(self) -> _Opened:
        gathered = Connections(self.address, size=_GATHERED_CONNECTIONS)
        others = Connections(self.address, size=_OTHER_CONNECTIONS)
        return _Opened(
            gathered,
            others,
            Gatherer(
                ReportWriter(gathered).write,
                weight=lambda asked: len(asked.reports),
                most=_MOST_ROWS,
                commits=self.commits,
            ),
            Gatherer(
                HeartbeatWriter(gathered).write,
                weight=lambda _: 1,
                most=_MOST_ROWS,
                commits=self.commits,
            ),
            self._run_parts(others),
            Listener(self.address),
        )

    def _run_parts(self, others: Connections) -> RunParts:
        definitions, large = Definitions(), LargeRuns()
        by_keys = Connections(
            self.address, size=_RUN_CONNECTIONS, settings=BY_KEYS, on_connect=large.forget
        )
        starter = RunStarter(by_keys, definitions)
        advances: Gatherer[AskedOfRuns, list[Answer]] = Gatherer(
            RunWriter(by_keys, definitions, large).write,
            weight=lambda asked: len(asked.steps),
            most=_MOST_STEPS,
            commits=self.commits,
        )
        starts: Gatherer[Run, Started] = Gatherer(
            starter.write,
            weight=lambda run: 1 + len(run.tasks),
            most=_MOST_STARTED,
            commits=self.commits,
        )
        return RunParts(others, by_keys, advances, starts, starter, definitions, Turns())

    def _runs(self) -> RunParts:
        return self._open().runs

    def _open(self) -> _Opened:
        if self._opened is None:
            raise StoreUnavailable("The store is not open; call open() first.")
        return self._opened


async def _close(opened: _Opened) -> None:
    await opened.reports.close()
    await opened.heartbeats.close()
    await opened.runs.advances.close()
    await opened.runs.starts.close()
    await opened.listener.close()
    await opened.gathered.close()
    await opened.runs.by_keys.close()
    await opened.others.close()
