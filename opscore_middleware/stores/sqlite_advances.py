"""Changing runs in SQLite: the steps of all callers that share a transaction, in sets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from opscore_middleware.core.runs.changes import (
    Change,
    SlotId,
    changes,
    entered,
    slot_of,
    swapped,
)
from opscore_middleware.core.runs.records import Advance, Run
from opscore_middleware.core.runs.tasks import Task, attempt_id
from opscore_middleware.stores.sqlite_runs import Kept, kept_runs, session_keys_of_tasks
from opscore_middleware.stores.sqlite_tasks import IS_OPEN, insert_tasks, update_tasks

__all__ = ["Answer", "Asked", "RunWriter"]

Answer = Run | Exception | None
"""What became of a step."""


class Asked(NamedTuple):
    """One step, and when it is taken."""

    advance: Advance
    now: int


class RunWriter:
    """Applies steps through the one connection that writes to the database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def write(self, asked: Sequence[Asked]) -> list[Answer]:
        """Apply steps in order within the open transaction, and say what became of each.

        A step that raises changes nothing, and its error is its answer.
        """
        batch = _Batch(self._connection, [advance for advance, _ in asked])
        answers = [batch.apply(*step) for step in asked]
        batch.make_room()
        batch.save()
        return [batch.displaced.get(id(answer), answer) for answer in answers]


class _Batch:
    """The runs that steps are for, as they were and as they have become."""

    def __init__(self, connection: sqlite3.Connection, advances: Sequence[Advance]) -> None:
        self._connection = connection
        task_ids = {advance.task_id for advance in advances if advance.task_id is not None}
        keys = session_keys_of_tasks(connection, task_ids) if task_ids else {}
        self._kept = kept_runs(
            connection,
            session_ids={a.session_id for a in advances if a.session_id is not None},
            session_keys=set(keys.values()),
        )
        self._after = {session_id: kept.run for session_id, kept in self._kept.items()}
        self._moments: dict[str, int] = {}
        self.displaced: dict[int, Run] = {}
        """What has become of runs for the sake of others, by the identity of the run before."""
        by_key = {kept.session_key: session_id for session_id, kept in self._kept.items()}
        self._of_task = {task_id: by_key[key] for task_id, key in keys.items()}

    def apply(self, advance: Advance, now: int) -> Answer:
        session_id = advance.session_id
        if session_id is None:
            session_id = self._of_task.get(advance.task_id or "", "")
        before = self._after.get(session_id)
        if before is None:
            return None
        try:
            after = advance.step(before)
        except Exception as error:  # whatever it is, its caller alone hears of it
            return error
        self._after[session_id] = after
        self._moments[session_id] = now
        return after

    def make_room(self) -> None:
        """Let attempts swap slots where others have moved to theirs."""
        slots = entered(change for _, _, changed in self._changes() for change in changed)
        if not slots:
            return
        holders = {key for slot in slots for key in self._holders(slot)}
        known = {kept.session_key for kept in self._kept.values()}
        others = kept_runs(self._connection, session_keys=holders - known)
        self._kept |= others
        self._after |= {session_id: kept.run for session_id, kept in others.items()}
        before = {session_id: kept.run for session_id, kept in self._kept.items()}
        for session_id, run in swapped(before, self._after).items():
            self.displaced[id(self._after[session_id])] = run
            self._after[session_id] = run

    def save(self) -> None:
        """Write what is not as it was."""
        changed = list(self._changes())
        self._connection.executemany(_UPDATE, [_session(kept, after) for kept, after, _ in changed])
        past = [
            (change, after.state)
            for _, after, tasks in changed
            for change in tasks
            if change.before is not None
        ]
        self._move(change.after for change, _ in past if entered([change]))
        # Those that leave their slots come before those that enter them.
        past.sort(key=lambda entry: slot_of(entry[0].after) is not None)
        update_tasks(self._connection, ((change.after, state) for change, state in past))
        for kept, after, tasks in changed:
            new = [change.after for change in tasks if change.before is None]
            if new:
                insert_tasks(self._connection, kept.session_key, after.state, new)
        self._stop(change for change, _ in past)

    def _changes(self) -> Iterable[tuple[Kept, Run, list[Change]]]:
        for session_id, after in self._after.items():
            kept = self._kept[session_id]
            if kept.run is not after:
                yield kept, after, changes(kept.run, after)

    def _holders(self, slot: SlotId) -> list[int]:
        return [key for (key,) in self._connection.execute(_HOLDERS, slot).fetchall()]

    def _move(self, entering: Iterable[Task]) -> None:
        """Leave the slots that attempts are in before they enter others."""
        for task in entering:
            self._connection.execute(_LEAVE, (task.task_id,))
            self._connection.execute(_GO_ON, slot_of(task) or ())

    def _stop(self, changed: Iterable[Change]) -> None:
        self._connection.executemany(
            _STOP,
            [
                (*slot, attempt_id(before), self._moments[before.session_id])
                for before, after in changed
                if before is not None
                and (slot := slot_of(before)) is not None
                and after.stopped
                and slot_of(after) is None
            ],
        )


def _session(kept: Kept, after: Run) -> tuple[str | int | None, ...]:
    return (
        *(after.state.value, after.result, after.error, after.updated_at, after.ended_at),
        kept.session_key,
    )


_HOLDERS: Final = f"""
    SELECT t.session_key FROM tasks AS t
    WHERE t.agent_id = ? AND t.instance_id = ? AND {IS_OPEN}"""  # noqa: S608 - made of constants
_UPDATE: Final = """
    UPDATE sessions SET state = ?, result = ?, error = ?, updated_at = ?, ended_at = ?
    WHERE session_key = ?"""
_LEAVE: Final = "UPDATE tasks SET instance_id = NULL WHERE task_id = ?"
_STOP: Final = """
    INSERT INTO slots (agent_id, instance_id, stopped, stopped_at) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET stopped = excluded.stopped, stopped_at = excluded.stopped_at"""
_GO_ON: Final = """
    UPDATE slots SET stopped = NULL, stopped_at = NULL WHERE agent_id = ? AND instance_id = ?"""
