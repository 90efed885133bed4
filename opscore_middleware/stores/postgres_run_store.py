"""The half of the PostgreSQL store that keeps workflows, runs and dispatch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.runs.records import (
    Advance,
    Claim,
    Creation,
    Endpoint,
    Run,
    Stopped,
    StoredWorkflow,
    Word,
)
from opscore_middleware.core.runs.tasks import Route, Task, TaskState
from opscore_middleware.stores import (
    postgres_claims,
    postgres_endpoints,
    postgres_runs,
    postgres_tasks,
    postgres_words,
    postgres_workflows,
)
from opscore_middleware.stores.postgres_advances import Answer, Asked
from opscore_middleware.stores.postgres_connections import Connections
from opscore_middleware.stores.postgres_gatherer import Gatherer
from opscore_middleware.stores.postgres_liveness import DatabaseClock
from opscore_middleware.stores.postgres_slots import Moment
from opscore_middleware.stores.postgres_starts import RunStarter, Started
from opscore_middleware.stores.postgres_turns import Turns
from opscore_middleware.stores.postgres_workflows import Definitions

__all__ = ["PostgresRunStore", "RunParts"]


class RunParts(NamedTuple):
    """What the verbs of runs work with."""

    connections: Connections
    by_keys: Connections
    """On which rows are looked for by their keys alone."""
    advances: Gatherer[Asked, list[Answer]]
    starts: Gatherer[Run, Started]
    starter: RunStarter
    definitions: Definitions
    turns: Turns


class PostgresRunStore(ABC):
    """Keeps `core.runs.store.RunStore`'s promise, for a store that says what it works with."""

    _clock: DatabaseClock

    @abstractmethod
    def _runs(self) -> RunParts:
        """Return what the open store works with. Raises `StoreUnavailable` for any other."""

    # --- definitions -----------------------------------------------------------------------------

    async def save_workflow(
        self, workflow_id: str, definition: str, *, now: int, creation: Creation | None = None
    ) -> tuple[StoredWorkflow, bool]:
        async with self._runs().connections.transaction() as connection:
            return await postgres_workflows.save_workflow(
                connection,
                workflow_id=workflow_id,
                definition=definition,
                now=now,
                creation=creation,
            )

    async def get_workflow(
        self, workflow_id: str, *, version: int | None = None
    ) -> StoredWorkflow | None:
        async with self._runs().connections.connection() as connection:
            return await postgres_workflows.get_workflow(
                connection, workflow_id=workflow_id, version=version
            )

    async def list_workflows(self, *, after: str | None, limit: int) -> Sequence[StoredWorkflow]:
        async with self._runs().connections.connection() as connection:
            return await postgres_workflows.list_workflows(connection, after=after, limit=limit)

    # --- runs ------------------------------------------------------------------------------------

    async def start_run(
        self,
        run: Run,
        *,
        creation: Creation | None = None,
        placed: Callable[[], None] | None = None,
    ) -> tuple[Run, bool]:
        parts = self._runs()
        if creation is None:
            started = await parts.starts.ask(run)
        else:
            started = await parts.starter.start(run, creation)
        if placed is not None:
            placed()
        return started

    async def advance(
        self, steps: Sequence[Advance], *, now: int
    ) -> Sequence[Run | Exception | None]:
        if not steps:
            return []
        return await self._runs().advances.ask(Asked(steps, self._clock(now)))

    async def get_run(self, session_id: str) -> Run | None:
        parts = self._runs()
        async with parts.by_keys.connection() as connection:
            return await postgres_runs.get_run(
                connection, session_id=session_id, definitions=parts.definitions
            )

    async def latest_session(self, prefix: str) -> str | None:
        async with self._runs().connections.connection() as connection:
            return await postgres_runs.latest_session(connection, prefix=prefix)

    async def get_task(self, task_id: str) -> Task | None:
        async with self._runs().connections.connection() as connection:
            return await postgres_tasks.get_task(connection, task_id=task_id)

    async def list_tasks(
        self,
        *,
        session_id: str | None,
        state: TaskState | None,
        agent_id: str | None,
        capability: str | None,
        after: tuple[int, str] | None,
        limit: int,
    ) -> Sequence[Task]:
        async with self._runs().connections.connection() as connection:
            return await postgres_tasks.list_tasks(
                connection,
                session_id=session_id,
                state=state,
                agent_id=agent_id,
                capability=capability,
                after=after,
                limit=limit,
            )

    # --- dispatch --------------------------------------------------------------------------------

    async def claim(self, *, limit: int, mark: Watermark | None, now: int) -> Sequence[Claim]:
        moment = Moment(now, self._clock(now), mark)
        parts = self._runs()
        return await postgres_claims.claim(parts.by_keys, parts.turns, limit=limit, moment=moment)

    async def next_ready_at(self, *, after: int) -> int | None:
        async with self._runs().connections.connection() as connection:
            return await postgres_tasks.next_ready_at(connection, after=after)

    async def due(self, *, now: int, limit: int) -> Sequence[Task]:
        async with self._runs().connections.connection() as connection:
            return await postgres_tasks.due(connection, now=self._clock(now), limit=limit)

    async def on_lost_instances(self, *, mark: Watermark, limit: int) -> Sequence[Task]:
        async with self._runs().connections.connection() as connection:
            return await postgres_tasks.on_lost_instances(connection, mark=mark, limit=limit)

    async def endpoint(self, agent_id: str, instance_id: str) -> Endpoint | None:
        async with self._runs().connections.connection() as connection:
            return await postgres_endpoints.endpoint(
                connection, agent_id=agent_id, instance_id=instance_id
            )

    async def prefer_route(self, agent_id: str, route: Route) -> None:
        async with self._runs().connections.connection() as connection:
            await postgres_endpoints.prefer_route(connection, agent_id=agent_id, route=route)

    async def candidates(self, *, pinned: str | None, capability: str | None) -> Sequence[str]:
        async with self._runs().connections.connection() as connection:
            return await postgres_endpoints.candidates(
                connection, pinned=pinned, capability=capability
            )

    # --- what agents say -------------------------------------------------------------------------

    async def hearing(self, *, holder: str, lease: int, now: int) -> int | None:
        async with self._runs().connections.connection() as connection:
            return await postgres_words.hearing(
                connection, holder=holder, lease=lease, now=self._clock(now)
            )

    async def heard(self, *, holder: str, event_id: int) -> None:
        async with self._runs().connections.connection() as connection:
            await postgres_words.heard(connection, holder=holder, event_id=event_id)

    async def words(self, *, after: int, limit: int, since: int) -> tuple[Sequence[Word], int]:
        async with self._runs().connections.connection() as connection:
            return await postgres_words.words(
                connection, after=after, limit=limit, since=self._clock(since)
            )

    async def has_named(self, agent_id: str) -> bool:
        async with self._runs().connections.connection() as connection:
            return await postgres_words.has_named(connection, agent_id=agent_id)

    async def open_tasks(self, agent_ids: Sequence[str]) -> Sequence[Task]:
        async with self._runs().connections.connection() as connection:
            return await postgres_tasks.open_tasks(connection, agent_ids=agent_ids)

    async def stopped(self, *, since: int) -> Sequence[Stopped]:
        async with self._runs().connections.connection() as connection:
            return await postgres_words.stopped(connection, since=self._clock(since))

    # --- what is let go of -----------------------------------------------------------------------

    async def unfinished(self) -> Mapping[TaskState, int]:
        async with self._runs().connections.connection() as connection:
            return await postgres_tasks.count_unfinished(connection)

    async def prune_runs(self, *, before: int, limit: int) -> int:
        async with self._runs().connections.transaction() as connection:
            return await postgres_runs.prune_runs(connection, before=before, limit=limit)
