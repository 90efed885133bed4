"""Changing runs in PostgreSQL: the steps of all callers that share a transaction, in sets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from opscore_middleware.core.runs.changes import (
    Change,
    SlotId,
    changes,
    entered,
    slot_of,
    stopped_in,
    swapped,
)
from opscore_middleware.core.runs.records import Advance, Run
from opscore_middleware.core.runs.tasks import attempt_id
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores.postgres_connections import Connection, Connections
from opscore_middleware.stores.postgres_large_runs import LargeRuns
from opscore_middleware.stores.postgres_locks import CLAIMS
from opscore_middleware.stores.postgres_runs import lock_runs
from opscore_middleware.stores.postgres_tasks import IS_OPEN, insert_tasks, update_tasks
from opscore_middleware.stores.postgres_workflows import Definitions
from opscore_middleware.stores.rows import STOPPED_ROOM

__all__ = ["Answer", "Asked", "RunWriter"]

Answer = Run | Exception | None
"""What became of a step."""


class Asked(NamedTuple):
    """What one caller wants done, and when it is done."""

    steps: Sequence[Advance]
    now: int


class RunWriter:
    """Applies the steps of several callers in one transaction, and writes what they change.

    What PostgreSQL refuses is done again, each step in a transaction of its own, so that one whose
    data cannot be kept fails alone.

    Nobody waits in a circle: whoever takes several locks takes first the one of claims, if at all;
    then those on sessions, in the order of their keys, all at once; and then writes rows that only
    their holders write, the slots' in the order of their keys. An attempt that turns up in another
    slot changes who has which, and that takes the lock of claims; as that is seen only once its
    session is locked, the transaction is given up then and begun anew.
    """

    def __init__(
        self, connections: Connections, definitions: Definitions, large: LargeRuns
    ) -> None:
        self._connections = connections
        self._definitions = definitions
        self._large = large

    async def write(self, callers: Sequence[Asked]) -> Sequence[list[Answer]]:
        """Answer each caller's steps, once what they change is on disk.

        Raises `StoreUnavailable` when that cannot be known, or nothing was written.
        """
        steps = [step for caller in callers for step in caller.steps]
        now = max(caller.now for caller in callers)
        answers = iter(await self._fenced(steps, now))
        return [[next(answers) for _ in caller.steps] for caller in callers]

    async def _fenced(self, steps: Sequence[Advance], now: int) -> list[Answer]:
        try:
            return await self._write(steps, now)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(steps) == 1:
                return [error]
        return [(await self._fenced([step], now))[0] for step in steps]

    async def _write(self, steps: Sequence[Advance], now: int) -> list[Answer]:
        takes_turn = False
        holders: set[int] = set()
        while True:
            async with self._connections.transaction() as connection:
                if takes_turn:
                    await connection.execute(_TAKE_TURN)
                before = await self._lock(connection, steps, holders)
                after, answers = _applied(before, steps)
                changed = _changes(before, after)
                slots = set(entered(changed))
                others = await _holders(connection, slots) - before.keys() if slots else set()
                if not slots or (takes_turn and not others):
                    if slots:
                        _make_room(before, after)
                        changed = _changes(before, after)
                    await _save_sessions(connection, before, after)
                    await _save_tasks(connection, before, changed, now)
                    return answers
            takes_turn = True
            holders |= others

    async def _lock(
        self, connection: Connection, steps: Sequence[Advance], holders: Collection[int]
    ) -> dict[int, Run]:
        return await lock_runs(
            connection,
            session_ids={step.session_id for step in steps if step.session_id is not None},
            task_ids={step.task_id for step in steps if step.task_id is not None},
            session_keys=holders,
            definitions=self._definitions,
            large=self._large,
        )


def _applied(
    before: Mapping[int, Run], steps: Sequence[Advance]
) -> tuple[dict[int, Run], list[Answer]]:
    """Return the runs after steps, and what became of each; one that raises changes nothing."""
    by_session = {run.session_id: key for key, run in before.items()}
    by_task = _keys_of_tasks(before, {step.task_id for step in steps if step.task_id is not None})
    after = dict(before)
    answers: list[Answer] = []
    for step in steps:
        if step.session_id is not None:
            key = by_session.get(step.session_id)
        else:
            key = by_task.get(step.task_id or "")
        if key is None:
            answers.append(None)
            continue
        try:
            after[key] = step.step(after[key])
        except Exception as error:  # whatever it is, its caller alone hears of it
            answers.append(error)
        else:
            answers.append(after[key])
    return after, answers


def _keys_of_tasks(runs: Mapping[int, Run], task_ids: Collection[str]) -> dict[str, int]:
    """Return the keys of the runs that have these tasks; a run may have others by the thousand."""
    return {
        task_id: key
        for key, run in runs.items()
        for task_id in (run.tasks if len(run.tasks) < len(task_ids) else task_ids)
        if task_id in run.tasks
    }


def _changes(before: Mapping[int, Run], after: Mapping[int, Run]) -> list[Change]:
    return [change for key, run in before.items() for change in changes(run, after[key])]


def _make_room(before: Mapping[int, Run], after: dict[int, Run]) -> None:
    keys = {run.session_id: key for key, run in before.items()}
    displaced = swapped(
        {run.session_id: run for run in before.values()},
        {run.session_id: run for run in after.values()},
    )
    for session_id, run in displaced.items():
        after[keys[session_id]] = run


async def _holders(connection: Connection, slots: Collection[SlotId]) -> set[int]:
    """Return the keys of the sessions whose attempts are in these slots."""
    agent_ids, instance_ids = zip(*slots, strict=True)
    rows = await connection.fetch(_HOLDERS, agent_ids, instance_ids)
    return {row["session_key"] for row in rows}


async def _save_sessions(
    connection: Connection, before: Mapping[int, Run], after: Mapping[int, Run]
) -> None:
    runs = [(key, run) for key, run in after.items() if _is_other(before[key], run)]
    if runs:
        columns = zip(
            *((k, r.state.value, r.result, r.error, r.updated_at, r.ended_at) for k, r in runs),
            strict=True,
        )
        await connection.execute(_UPDATE, *columns)


async def _save_tasks(
    connection: Connection, before: Mapping[int, Run], changed: Sequence[Change], now: int
) -> None:
    known = [(past, task) for past, task in changed if past is not None]
    if entered(changed):
        # Slots are left before any is entered, since rows are changed one after the other.
        await connection.execute(_LEAVE, [past.task_id for past, _ in known if slot_of(past)])
        known = [(past._replace(instance_id=None), task) for past, task in known]
    await update_tasks(connection, known)
    new = [task for past, task in changed if past is None]
    if new:
        keys = {run.session_id: key for key, run in before.items()}
        await insert_tasks(connection, [(keys[task.session_id], task) for task in new])
    await _save_stopped(connection, changed, now)


async def _save_stopped(connection: Connection, changed: Iterable[Change], now: int) -> None:
    stopped: dict[SlotId, list[str]] = {}
    for past, task in changed:
        if past is not None and (slot := stopped_in(past, task)) is not None:
            stopped.setdefault(slot, []).append(attempt_id(task))
    if stopped:
        agent_ids, instance_ids = zip(*stopped, strict=True)
        attempts = [" ".join(named) for named in stopped.values()]
        await connection.execute(_STOPPED, agent_ids, instance_ids, attempts, now)


def _is_other(before: Run, after: Run) -> bool:
    return before is not after and before[:_TASKS] != after[:_TASKS]


_TASKS: Final = Run._fields.index("tasks")  # the last
_TAKE_TURN: Final = f"SELECT pg_advisory_xact_lock({CLAIMS})"
_HOLDERS: Final = f"""
    SELECT t.session_key FROM opscore.tasks AS t
    JOIN unnest($1::text[], $2::text[]) AS slot (agent_id, instance_id)
        ON slot.agent_id = t.agent_id AND slot.instance_id = t.instance_id
    WHERE {IS_OPEN}"""  # noqa: S608 - made of constants
_UPDATE: Final = """
    UPDATE opscore.sessions AS s SET
        state = new.state,
        result = new.result,
        error = new.error,
        updated_at = new.updated_at,
        ended_at = new.ended_at
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
        AS new (session_key, state, result, error, updated_at, ended_at)
    WHERE s.session_key = new.session_key"""
_LEAVE: Final = "UPDATE opscore.tasks SET instance_id = NULL WHERE task_id = ANY($1::text[])"
# Behind an endpoint that several share, one instance may work on several. What is cut off for want
# of room begins with half an id, which names nothing.
_STOPPED: Final = f"""
    INSERT INTO opscore.slots (agent_id, instance_id, given_at, stopped, stopped_at)
    SELECT agent_id, instance_id, 0, stopped, $4
    FROM unnest($1::text[], $2::text[], $3::text[]) AS slot (agent_id, instance_id, stopped)
    ORDER BY agent_id COLLATE "C", instance_id COLLATE "C"
    ON CONFLICT (agent_id, instance_id) DO UPDATE SET
        stopped = CASE
            WHEN position(' ' || excluded.stopped || ' ' IN ' ' || slots.stopped || ' ') > 0
                THEN slots.stopped
            ELSE right(concat_ws(' ', slots.stopped, excluded.stopped), {STOPPED_ROOM}) END,
        stopped_at = excluded.stopped_at"""  # noqa: S608 - made of constants
