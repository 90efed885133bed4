"""Workflows and dispatch on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

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
    sqlite_claims,
    sqlite_runs,
    sqlite_tasks,
    sqlite_vacancies,
    sqlite_words,
    sqlite_workflows,
)
from opscore_middleware.stores.sqlite_creations import created
from opscore_middleware.stores.sqlite_database import SqliteDatabase

__all__ = ["SqliteRunStore"]


class SqliteRunStore(SqliteDatabase):
    """Keeps `core.runs.store.RunStore`'s promise on SQLite."""

    # --- definitions -----------------------------------------------------------------------------

    async def save_workflow(
        self, workflow_id: str, definition: str, *, now: int, creation: Creation | None = None
    ) -> tuple[StoredWorkflow, bool]:
        writer = self._open_writer()
        save = partial(
            sqlite_workflows.save_workflow,
            at_hand=writer.workflows,
            workflow_id=workflow_id,
            definition=definition,
            now=now,
        )
        return await writer.run(partial(created, create=save, creation=creation, now=now))

    async def get_workflow(
        self, workflow_id: str, *, version: int | None = None
    ) -> StoredWorkflow | None:
        if version is not None:
            return await self._reads().run(
                partial(sqlite_workflows.get_workflow, workflow_id=workflow_id, version=version)
            )
        writer = self._open_writer()
        latest = writer.workflows.get(workflow_id)
        if latest is not None:
            return latest
        return await writer.run(
            partial(
                sqlite_workflows.latest_workflow,
                at_hand=writer.workflows,
                workflow_id=workflow_id,
            )
        )

    async def list_workflows(self, *, after: str | None, limit: int) -> Sequence[StoredWorkflow]:
        return await self._reads().run(
            partial(sqlite_workflows.list_workflows, after=after, limit=limit)
        )

    # --- runs ------------------------------------------------------------------------------------

    async def start_run(
        self,
        run: Run,
        *,
        creation: Creation | None = None,
        placed: Callable[[], None] | None = None,
    ) -> tuple[Run, bool]:
        writer = self._open_writer()
        start = partial(sqlite_runs.start_run, runs=writer.runs, new=run)
        started = writer.begin(
            partial(created, create=start, creation=creation, now=run.created_at)
        )
        if placed is not None:
            placed()  # what is asked of the writer is done in that order
        return await started

    async def advance(
        self, steps: Sequence[Advance], *, now: int
    ) -> Sequence[Run | Exception | None]:
        return await self._open_writer().advance(steps, now=now)

    async def get_run(self, session_id: str) -> Run | None:
        return await self._reads().run(partial(sqlite_runs.get_run, session_id=session_id))

    async def latest_session(self, prefix: str) -> str | None:
        return await self._reads().run(partial(sqlite_runs.latest_session, prefix=prefix))

    async def get_task(self, task_id: str) -> Task | None:
        return await self._reads().run(partial(sqlite_tasks.get_task, task_id=task_id))

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
        return await self._reads().run(
            partial(
                sqlite_tasks.list_tasks,
                session_id=session_id,
                state=state,
                agent_id=agent_id,
                capability=capability,
                after=after,
                limit=limit,
            )
        )

    # --- dispatch --------------------------------------------------------------------------------

    async def claim(self, *, limit: int, mark: Watermark | None, now: int) -> Sequence[Claim]:
        writer = self._open_writer()
        return await writer.run(
            partial(
                sqlite_claims.claim,
                runs=writer.runs,
                turns=writer.turns,
                limit=limit,
                mark=mark,
                now=now,
            )
        )

    async def next_ready_at(self, *, after: int) -> int | None:
        return await self._reads().run(partial(sqlite_tasks.next_ready_at, after=after))

    async def due(self, *, now: int, limit: int) -> Sequence[Task]:
        return await self._reads().run(partial(sqlite_tasks.due, now=now, limit=limit))

    async def on_lost_instances(self, *, mark: Watermark, limit: int) -> Sequence[Task]:
        return await self._reads().run(
            partial(sqlite_tasks.on_lost_instances, mark=mark, limit=limit)
        )

    async def endpoint(self, agent_id: str, instance_id: str) -> Endpoint | None:
        return await self._reads().run(
            partial(sqlite_vacancies.endpoint, agent_id=agent_id, instance_id=instance_id)
        )

    async def prefer_route(self, agent_id: str, route: Route) -> None:
        await self._open_writer().run(
            partial(sqlite_claims.prefer_route, agent_id=agent_id, route=route)
        )

    async def candidates(self, *, pinned: str | None, capability: str | None) -> Sequence[str]:
        return await self._reads().run(
            partial(sqlite_claims.candidates, pinned=pinned, capability=capability)
        )

    # --- what agents say -------------------------------------------------------------------------

    async def hearing(self, *, holder: str, lease: int, now: int) -> int | None:
        # Whose turn it is dies with the process, and to hear something again changes nothing.
        return await self._open_writer().run(
            partial(sqlite_words.hearing, holder=holder, lease=lease, now=now), may_be_lost=True
        )

    async def heard(self, *, holder: str, event_id: int) -> None:
        await self._open_writer().run(
            partial(sqlite_words.heard, holder=holder, event_id=event_id), may_be_lost=True
        )

    async def words(self, *, after: int, limit: int, since: int) -> tuple[Sequence[Word], int]:
        return await self._reads().run(
            partial(sqlite_words.words, after=after, limit=limit, since=since)
        )

    async def has_named(self, agent_id: str) -> bool:
        return await self._reads().run(partial(sqlite_words.has_named, agent_id=agent_id))

    async def open_tasks(self, agent_ids: Sequence[str]) -> Sequence[Task]:
        return await self._reads().run(partial(sqlite_tasks.open_tasks, agent_ids=agent_ids))

    async def stopped(self, *, since: int) -> Sequence[Stopped]:
        return await self._reads().run(partial(sqlite_words.stopped, since=since))

    # --- what is let go of -----------------------------------------------------------------------

    async def unfinished(self) -> Mapping[TaskState, int]:
        return await self._reads().run(sqlite_tasks.unfinished)

    async def prune_runs(self, *, before: int, limit: int) -> int:
        writer = self._open_writer()
        return await writer.run(
            partial(sqlite_runs.prune_runs, runs=writer.runs, before=before, limit=limit)
        )
