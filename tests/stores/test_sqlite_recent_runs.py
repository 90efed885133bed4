"""What SQLite's writer has at hand of runs is what the file says, whatever is done or undone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from opscore_middleware.core.runs.records import Advance, Run, Step
from opscore_middleware.core.runs.tasks import OPEN, TaskState
from opscore_middleware.core.sessions import Session, SessionState
from opscore_middleware.errors import Conflict, StoreUnavailable
from opscore_middleware.stores.sqlite import SqliteStore
from opscore_middleware.stores.sqlite_kept_runs import kept_runs
from opscore_middleware.stores.sqlite_recent_runs import RecentRuns
from tests.stores.run_support import DEFINITION, claimed, idle, runs, task
from tests.stores.support import NOW

T = TypeVar("T")

FIELDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "begins": lambda number: {"state": TaskState.RUNNING, "started_at": NOW + number},
    "moves": lambda number: {"instance_id": "ij"[number % 2]},
    "ends": lambda number: {"state": TaskState.COMPLETED, "ended_at": NOW + number},
    "says much": lambda number: {"result": f'"{"x" * 997 * (number % 5)}"'},
    "cannot be kept": lambda number: {"error": "\ud800"},
}
STEPS = (*FIELDS, "adds", "is over", "refuses")


def step_of(task_id: str, kind: str, number: int) -> Step:
    """A step of a kind, as the engine has them; `number` tells those of one kind apart."""

    def step(run: Run) -> Run:
        before = run.tasks[task_id]
        if kind == "is over":
            return run._replace(state=SessionState.COMPLETED, result="{}", ended_at=NOW + number)
        if kind == "refuses":
            raise Conflict("not now")
        if kind == "adds":
            after = before._replace(task_id=f"{task_id}-{number}", item=number)
        elif before.state in OPEN or kind not in {"begins", "moves"}:
            after = before._replace(**FIELDS[kind](number))
        else:
            return run
        return run._replace(tasks={**run.tasks, after.task_id: after})

    return step


class AtHand(RuleBasedStateMachine):
    """A store on which verbs are tried, one by one and several to a transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = SqliteStore(":memory:")
        self.numbers = count(1)
        self.tasks: list[tuple[str, str]] = []
        self.do(self._open())

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    async def _open(self) -> None:
        await self.store.open()
        self.writer = self.store._open_writer()
        self.writer.runs._room = 12_000  # so that some have to go
        await self.store.save_workflow("w", DEFINITION, now=NOW)
        await idle(self.store, "a", "i", "j")

    def teardown(self) -> None:
        self.do(self.store.close())
        self.runner.close()

    @rule(tasks=st.integers(1, 3))
    def start(self, tasks: int) -> None:
        number = next(self.numbers)
        new = [task(f"t{number}-{place}") for place in range(tasks)]
        self.tasks += [(f"s{number}", one.task_id) for one in new]
        self.do(self.store.start_run(runs(*new, session_id=f"s{number}")))

    @rule(limit=st.integers(1, 3))
    def claim(self, limit: int) -> None:
        self.do(claimed(self.store, limit=limit))

    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        self.do(self.store.advance(self._steps(data), now=NOW))

    @rule(data=st.data())
    def many_at_once(self, data: st.DataObject) -> None:
        # Drawn first: a draw that ends the example would leave what was begun behind.
        first, last = self._steps(data), self._steps(data)

        async def at_once() -> None:
            await asyncio.gather(
                self.store.advance(first, now=NOW),
                claimed(self.store, limit=2),
                self._fail(whole=False),
                self.store.advance(last, now=NOW),
                return_exceptions=True,
            )

        self.do(at_once())

    @rule(data=st.data())
    def change_session(self, data: st.DataObject) -> None:
        def change(session: Session) -> Session:
            return session.model_copy(update={"state": SessionState.PAUSED})

        if self.tasks:
            session_id, _ = data.draw(st.sampled_from(self.tasks))
            self.do(self.store.update_session(session_id, change))

    @rule()
    def prune(self) -> None:
        self.do(self.store.prune_runs(before=NOW + 50, limit=2))

    @rule(whole=st.booleans())
    def fail(self, whole: bool) -> None:
        with pytest.raises(StoreUnavailable if whole else ZeroDivisionError):
            self.do(self._fail(whole=whole))

    async def _fail(self, *, whole: bool) -> None:
        """Start and change runs, and have all that undone: by itself, or with the transaction."""

        def undone(connection: sqlite3.Connection) -> None:
            known = self.writer.runs.find({session_id for session_id, _ in self.tasks[-3:]})
            for session_key, run in known.values():
                connection.execute("DELETE FROM tasks WHERE session_key = ?", (session_key,))
                self.writer.runs.drop(run.session_id)
                self.writer.runs.find([run.session_id])  # as the file says for now
            if whole:
                connection.execute("ROLLBACK")
            raise ZeroDivisionError

        await self.writer.run(undone)

    def _steps(self, data: st.DataObject) -> list[Advance]:
        drawn = data.draw(
            st.lists(st.tuples(st.sampled_from(self.tasks), st.sampled_from(STEPS)), max_size=4)
            if self.tasks
            else st.just([])
        )
        return [
            Advance(
                step_of(task_id, kind, next(self.numbers)),
                session_id=session_id if number % 2 else None,
                task_id=None if number % 2 else task_id,
            )
            for number, ((session_id, task_id), kind) in enumerate(drawn)
        ]

    @invariant()
    def what_is_at_hand_is_what_is_kept(self) -> None:
        def compare(connection: sqlite3.Connection) -> None:
            at_hand = self.writer.runs
            here = {session_id: shelved.kept for session_id, shelved in at_hand._shelf.items()}
            written = kept_runs(connection, session_ids=list(here))
            assert here == written
            for session_id, (_, run) in here.items():
                assert list(run.tasks) == list(written[session_id].run.tasks)
            names = {name: one.run.session_id for one in here.values() for name in one.run.tasks}
            assert at_hand._session_ids == names
            anew = RecentRuns(connection, room=10**9)
            for kept in here.values():
                anew.put(kept)
            assert at_hand._size == anew._size
            assert at_hand._size <= at_hand._room or len(here) == 1

        self.do(self.writer.run(compare))


def test_what_is_at_hand_is_what_the_file_says_whatever_is_done() -> None:
    run_state_machine_as_test(
        AtHand, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )
