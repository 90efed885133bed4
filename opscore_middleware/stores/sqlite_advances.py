"""Changing runs in SQLite: the steps of all callers that share a transaction, in sets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
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
from opscore_middleware.core.runs.tasks import Task, attempt_id
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.stores.rows import STOPPED_ROOM
from opscore_middleware.stores.sqlite_kept_runs import Kept
from opscore_middleware.stores.sqlite_recent_runs import RecentRuns
from opscore_middleware.stores.sqlite_sets import update
from opscore_middleware.stores.sqlite_tasks import IS_OPEN, OPEN_TASKS, insert_tasks, update_tasks

__all__ = ["Answer", "Asked", "RunWriter"]

Answer = Run | Exception | None
"""What became of a step."""


class Asked(NamedTuple):
    """One step, and when it is taken."""

    advance: Advance
    now: int


class RunWriter:
    """Applies steps through the one connection that writes to the database."""

    def __init__(self, connection: sqlite3.Connection, runs: RecentRuns) -> None:
        self._connection = connection
        self._runs = runs

    def write(self, asked: Sequence[Asked]) -> list[Answer]:
        """Apply steps in order within the open transaction, and say what became of each.

        A step that raises changes nothing, and its error is its answer.
        """
        batch = _Batch(self._connection, self._runs, [advance for advance, _ in asked])
        answers = [batch.apply(*step) for step in asked]
        changed = batch.changes()
        if slots := entered(change for _, _, tasks in changed for change in tasks):
            batch.make_room(slots)
            changed = batch.changes()
        _save(self._connection, changed, batch.moments)
        for kept, after, tasks in changed:
            self._runs.put(Kept(kept.session_key, after), tasks)
        return [batch.displaced.get(id(answer), answer) for answer in answers]


class _Changed(NamedTuple):
    """A run that is not as it is kept."""

    kept: Kept
    after: Run
    tasks: list[Change]


class _Batch:
    """The runs that steps are for, as they were and as they have become."""

    def __init__(
        self, connection: sqlite3.Connection, runs: RecentRuns, advances: Sequence[Advance]
    ) -> None:
        self._connection = connection
        self._runs = runs
        task_ids = {advance.task_id for advance in advances if advance.task_id is not None}
        self._of_task = runs.sessions_of(task_ids)
        session_ids = {a.session_id for a in advances if a.session_id is not None}
        self._kept = runs.find(session_ids.union(self._of_task.values()))
        self._after = {session_id: kept.run for session_id, kept in self._kept.items()}
        self.moments: dict[str, int] = {}
        self.displaced: dict[int, Run] = {}
        """What has become of runs for the sake of others, by the identity of the run before."""

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
        self.moments[session_id] = now
        return after

    def make_room(self, slots: Iterable[SlotId]) -> None:
        """Let attempts swap slots where others have moved to theirs, which are `slots`."""
        holders = {
            holder
            for slot in slots
            for (holder,) in self._connection.execute(_HOLDERS, slot).fetchall()
        }
        others = self._runs.find(holders - self._kept.keys())
        self._kept |= others
        self._after |= {session_id: kept.run for session_id, kept in others.items()}
        before = {session_id: kept.run for session_id, kept in self._kept.items()}
        for session_id, run in swapped(before, self._after).items():
            self.displaced[id(self._after[session_id])] = run
            self._after[session_id] = run

    def changes(self) -> list[_Changed]:
        """Return what is not as it was."""
        return [
            _Changed(kept, after, changes(kept.run, after))
            for kept, after in ((self._kept[key], after) for key, after in self._after.items())
            if kept.run is not after
        ]


def _save(
    connection: sqlite3.Connection, changed: Sequence[_Changed], moments: Mapping[str, int]
) -> None:
    _save_sessions(connection, changed)
    leaving: list[tuple[Task, Task, SessionState]] = []
    others: list[tuple[Task, Task, SessionState]] = []
    for kept, after, tasks in changed:
        new = [task for before, task in tasks if before is None]
        if new:
            insert_tasks(connection, kept.session_key, after.state, new)
        for before, task in tasks:
            if before is not None:
                slot, then = slot_of(before), slot_of(task)
                (leaving if slot and not then else others).append((before, task, after.state))
                if then and slot != then:
                    # Those that swap leave their slots before any enters the other's.
                    connection.execute(_LEAVE, (task.task_id,))
                    connection.execute(_GO_ON, then)
    update_tasks(connection, leaving)
    update_tasks(connection, others)
    connection.executemany(
        _STOP,
        [
            (*slot, attempt_id(task), moments[task.session_id])
            for before, task, _ in (*leaving, *others)
            if (slot := stopped_in(before, task)) is not None
        ],
    )


def _save_sessions(connection: sqlite3.Connection, changed: Iterable[_Changed]) -> None:
    touched, turned = [], []
    for (session_key, before), after, _ in changed:
        new = (after.result, after.error, after.updated_at, after.ended_at)
        if after.state is not before.state:
            turned.append((session_key, *new, after.state.value))
        elif new != (before.result, before.error, before.updated_at, before.ended_at):
            touched.append((*new, session_key))
    # Without the state, which an index and a trigger follow.
    connection.executemany(_TOUCH, touched)
    update(connection, "sessions", _TURNED, turned)


_HOLDERS: Final = f"""
    SELECT s.session_id
    FROM {OPEN_TASKS} CROSS JOIN sessions AS s ON s.session_key = t.session_key
    WHERE t.agent_id = ? AND t.instance_id = ? AND {IS_OPEN}"""  # noqa: S608 - made of constants
_TOUCH: Final = """
    UPDATE sessions SET result = ?, error = ?, updated_at = ?, ended_at = ?
    WHERE session_key = ?"""
_TURNED: Final = ("session_key", "result", "error", "updated_at", "ended_at", "state")
_LEAVE: Final = "UPDATE tasks SET instance_id = NULL WHERE task_id = ?"
# Behind an endpoint that several share, one instance may work on several. What is cut off for want
# of room begins with half an id, which names nothing.
_STOP: Final = f"""
    INSERT INTO slots (agent_id, instance_id, stopped, stopped_at) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
        stopped = CASE
            WHEN stopped IS NULL THEN excluded.stopped
            WHEN instr(' ' || stopped || ' ', ' ' || excluded.stopped || ' ') > 0 THEN stopped
            ELSE substr(stopped || ' ' || excluded.stopped, -{STOPPED_ROOM}) END,
        stopped_at = excluded.stopped_at"""  # noqa: S608 - made of constants
_GO_ON: Final = """
    UPDATE slots SET stopped = NULL, stopped_at = NULL WHERE agent_id = ? AND instance_id = ?"""
