"""Runs, started in PostgreSQL: those of several callers in one statement, or one by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg

from opscore_middleware.core.refusals import deregistered_agent, unknown_agent
from opscore_middleware.core.runs.records import Creation, Run
from opscore_middleware.core.runs.refusals import other_session, unknown_workflow
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores.postgres_connections import Connection, Connections
from opscore_middleware.stores.postgres_creations import keep, refuse_repeats
from opscore_middleware.stores.postgres_runs import read_run
from opscore_middleware.stores.postgres_tasks import COLUMNS, arrays, columns_of
from opscore_middleware.stores.postgres_workflows import Definitions

__all__ = ["RunStarter", "Started"]

Started = tuple[Run, bool]
"""The run that is kept, and whether it is the one that was to be started."""


class RunStarter:
    """Starts runs, on connections that look for keys.

    What PostgreSQL refuses is tried again, each run in a statement of its own, so that one whose
    data cannot be kept fails alone.
    """

    def __init__(self, connections: Connections, definitions: Definitions) -> None:
        self._connections = connections
        self._definitions = definitions

    async def write(self, runs: Sequence[Run]) -> Sequence[Started | Exception]:
        """Say what became of each run, once those that are new are on disk.

        Raises `StoreUnavailable` when that cannot be known, or nothing was written.
        """
        try:
            async with self._connections.connection() as connection:
                return await self._start(connection, runs)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(runs) == 1:
                return [error]
        return [(await self.write([run]))[0] for run in runs]

    async def start(self, run: Run, creation: Creation) -> Started:
        """Start one run under a key, in a transaction of its own."""
        async with self._connections.transaction() as connection:
            await refuse_repeats(connection, creation, now=run.created_at)
            (started,) = await self._start(connection, [run])
            if isinstance(started, Exception):
                raise started
            await keep(connection, creation, started)
            return started

    async def _start(
        self, connection: Connection, runs: Sequence[Run]
    ) -> list[Started | Exception]:
        first = {run.session_id: run for run in reversed(runs)}
        rows = await connection.fetch(_START, *_values(first))
        found = {row["session_id"]: row for row in rows}
        answers: list[Started | Exception] = []
        for run in runs:
            row = found[run.session_id]
            refused = _refusal(run, row)
            if refused is not None:
                answers.append(refused)
            elif row["session_key"] is not None and first[run.session_id] is run:
                answers.append((run, True))
            else:
                # It was started before, by another caller or replica perhaps at the same time.
                answers.append(await self._known(connection, run.session_id))
        return answers

    async def _known(self, connection: Connection, session_id: str) -> Started | Exception:
        known = await read_run(connection, session_id, self._definitions)
        return other_session(session_id) if known is None else (known, False)


def _refusal(run: Run, row: asyncpg.Record) -> Exception | None:
    if row["agent_key"] is None:
        return unknown_agent(run.agent_id)
    if row["deregistered_at"] is not None:
        return deregistered_agent(run.agent_id)
    if row["workflow_key"] is None:
        return unknown_workflow(run.workflow.workflow_id, run.workflow.version)
    return None


def _values(runs: Mapping[str, Run]) -> list[Sequence[object]]:
    sessions = zip(
        *(
            (
                run.session_id,
                run.agent_id,
                run.state.value,
                run.result,
                run.error,
                run.initial_payload,
                run.traceparent,
                run.workflow.workflow_id,
                run.workflow.version,
                run.created_at,
                run.updated_at,
                run.ended_at,
            )
            for run in runs.values()
        ),
        strict=True,
    )
    tasks = [task for run in runs.values() for task in run.tasks.values()]
    if not tasks:
        return [*sessions, [], *([] for _ in COLUMNS)]
    return [*sessions, [task.session_id for task in tasks], *columns_of(tasks)]


# Sessions in the order of their ids, since replicas may start the same ones: of two that do, one
# waits for the other, and not both. Tasks in the order of theirs, as their keys tell it later.
_START: Final = f"""
    WITH wanted AS MATERIALIZED (
        SELECT new.*, a.agent_key, a.deregistered_at, w.workflow_key
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                    $7::text[], $8::text[], $9::integer[], $10::bigint[], $11::bigint[],
                    $12::bigint[])
            AS new (session_id, agent_id, state, result, error, initial_payload, traceparent,
                    workflow_id, version, created_at, updated_at, ended_at)
        LEFT JOIN opscore.agents AS a ON a.agent_id = new.agent_id
        LEFT JOIN opscore.workflows AS w
            ON w.workflow_id = new.workflow_id AND w.version = new.version
    ), session AS (
        INSERT INTO opscore.sessions (session_id, state, result, error, updated_at, ended_at,
                                      agent_key, workflow_id, created_at, workflow_key,
                                      initial_payload, traceparent)
        SELECT session_id, state, result, error, updated_at, ended_at, agent_key, workflow_id,
               created_at, workflow_key, initial_payload, traceparent
        FROM wanted
        WHERE agent_key IS NOT NULL AND deregistered_at IS NULL AND workflow_key IS NOT NULL
        ORDER BY session_id COLLATE "C"
        ON CONFLICT (session_id) DO NOTHING
        RETURNING session_key, session_id
    ), tasks AS (
        INSERT INTO opscore.tasks (session_key, {", ".join(COLUMNS)})
        SELECT session.session_key, {", ".join(f"new.{column}" for column in COLUMNS)}
        FROM unnest($13::text[], {arrays(14)}) WITH ORDINALITY
            AS new (session_id, {", ".join(COLUMNS)}, place)
        JOIN session ON session.session_id = new.session_id
        ORDER BY new.place
    )
    SELECT wanted.session_id, wanted.agent_key, wanted.deregistered_at, wanted.workflow_key,
           session.session_key
    FROM wanted LEFT JOIN session ON session.session_id = wanted.session_id
    """  # noqa: S608 - made of constants
