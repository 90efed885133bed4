"""The one thread that writes to a SQLite database, in as few transactions as can be."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from opscore_middleware.core.histogram import Histogram
from opscore_middleware.core.records import (
    HeartbeatOutcome,
    ReportOutcome,
    StoredHeartbeat,
    StoredReport,
)
from opscore_middleware.core.runs.kept import Kept
from opscore_middleware.core.runs.records import Advance
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores.sqlite_advances import Answer, Asked, RunWriter
from opscore_middleware.stores.sqlite_heartbeats import HeartbeatWriter
from opscore_middleware.stores.sqlite_recent_runs import RecentRuns
from opscore_middleware.stores.sqlite_reports import ReportWriter
from opscore_middleware.stores.sqlite_turns import Turns
from opscore_middleware.stores.sqlite_workflows import Latest

__all__ = ["SqliteWriter"]

_DEFINITIONS: Final = 100
"""How many definitions of workflows are remembered."""

T = TypeVar("T")

Run = Callable[[sqlite3.Connection], Any]
Explain = Callable[[Exception], StoreUnavailable | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Reports:
    """A caller that waits for reports to be written."""

    rows: Sequence[StoredReport]
    whole: bool
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Beat:
    """A caller that waits for a heartbeat to be written."""

    rows: Sequence[StoredHeartbeat]  # one
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """A caller that waits for runs to be advanced."""

    rows: Sequence[Asked]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """A caller that waits for anything else to be done."""

    run: Run
    future: asyncio.Future[Any]
    may_be_lost: bool


_Caller = _Reports | _Beat | _Steps | _Work
_Writes = Callable[[Sequence[Any]], Sequence[Any]]
_Answers = list[tuple[asyncio.Future[Any], Any]]


class SqliteWriter:
    """Gathers what concurrent callers want written, for as long as the commit before it takes, and
    answers all of them after their own commit is on disk.

    `runs`, `turns` and `workflows` are what it remembers from one transaction to the next, to be
    changed by what is run in its thread alone.

    Callers run on asyncio, on any number of loops. One that is cancelled leaves the others alone;
    what it asked for may still be written.

    Args:
        connection: used by this thread alone, and closed by it.
        check: raises `StoreUnavailable` when what is written would be kept nowhere.
        explain: turns a database's failure into `StoreUnavailable`; None for other errors.
        reported: called from the thread after each commit that may have brought events.
        commits: notes how many callers shared each commit.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        check: Callable[[], None],
        explain: Explain,
        reported: Callable[[], None],
        commits: Histogram,
    ) -> None:
        self._connection = connection
        self._commits = commits
        self._check = check
        self._explain = explain
        self._reported = reported
        self._reports = ReportWriter(connection)
        self._beats = HeartbeatWriter(connection)
        self.runs = RecentRuns(connection)
        self.turns = Turns(connection)
        self.workflows: Latest = Kept(_DEFINITIONS)
        self._steps = RunWriter(connection, self.runs)
        self._data_version = 0
        self._is_synced = True
        self._callers: SimpleQueue[_Caller | None] = SimpleQueue()
        self._asking = threading.Lock()  # nobody may ask after the thread was told to end
        self._closed = False
        # A daemon: what was answered is on disk, so a process that forgets to close may end.
        self._thread = threading.Thread(target=self._serve, name="opscore-sqlite", daemon=True)
        self._thread.start()

    async def report(self, reports: Sequence[StoredReport], *, whole: bool) -> list[ReportOutcome]:
        """Write reports, all or none of them with `whole`, and say what became of each."""
        future = asyncio.get_running_loop().create_future()
        self._ask(_Reports(reports, whole, future))
        outcomes: list[ReportOutcome] = await future
        return outcomes

    async def beat(self, beat: StoredHeartbeat) -> HeartbeatOutcome:
        """Write a heartbeat and say what is known of its instance."""
        future = asyncio.get_running_loop().create_future()
        self._ask(_Beat((beat,), future))
        (outcome,) = await future
        known: HeartbeatOutcome = outcome
        return known

    async def advance(self, steps: Sequence[Advance], *, now: int) -> list[Answer]:
        """Apply steps to runs and say what became of each."""
        future = asyncio.get_running_loop().create_future()
        self._ask(_Steps([Asked(step, now) for step in steps], future))
        answers: list[Answer] = await future
        return answers

    async def run(self, work: Callable[[sqlite3.Connection], T], *, may_be_lost: bool = False) -> T:
        """Run `work` in the writer's thread, within a transaction.

        What `may_be_lost` need not have reached the disk when this returns: it does so with the
        next commit that has to. A crash of the machine may take it back, nothing else, and nothing
        that came after it is kept then.
        """
        return await self.begin(work, may_be_lost=may_be_lost)

    def begin(
        self, work: Callable[[sqlite3.Connection], T], *, may_be_lost: bool = False
    ) -> asyncio.Future[T]:
        """Ask for what `run` does; whatever is asked for later is done later."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._ask(_Work(work, future, may_be_lost))
        return future

    def close(self) -> None:
        """Write what was asked for, and end the thread; waits for it. Idempotent."""
        with self._asking:
            self._closed = True
            self._callers.put(None)
        self._thread.join()

    def _ask(self, caller: _Caller) -> None:
        with self._asking:
            if self._closed:
                raise StoreUnavailable("The database is closed; the server is stopping.")
            self._callers.put(caller)

    def _serve(self) -> None:
        while (caller := self._callers.get()) is not None:
            callers = [caller]
            for _ in range(self._callers.qsize()):
                following = self._callers.get()
                if following is None:
                    self._callers.put(None)
                else:
                    callers.append(following)
            _answer(self._commit(callers))
            if any(isinstance(caller, _Reports) for caller in callers):
                self._reported()  # after the answers, since somebody waits for those
        self._connection.close()

    def _commit(self, callers: list[_Caller]) -> _Answers:
        is_durable = not all(isinstance(c, _Work) and c.may_be_lost for c in callers)
        try:
            self._check()
            self._sync_commits(is_durable)
            self._connection.execute("BEGIN IMMEDIATE")
            self._check_memory()
            answers = self._perform(callers)
            self._connection.execute("COMMIT")
        except Exception as error:  # whatever it is, each caller has to hear of it
            self._roll_back()
            return [(caller.future, self._failure(error)) for caller in callers]
        self._commits.observe(len(callers))
        return answers

    def _perform(self, callers: list[_Caller]) -> _Answers:
        answers = [
            (caller.future, self._alone(caller.run))
            for caller in callers
            if isinstance(caller, _Work)
        ]
        answers += self._advance([caller for caller in callers if isinstance(caller, _Steps)])
        beating = [caller for caller in callers if isinstance(caller, _Beat)]
        answers += self._write(beating, self._beats.write)
        reporting = [caller for caller in callers if isinstance(caller, _Reports)]
        refused = self._refused(reporting)
        answers += refused.items()
        reporting = [caller for caller in reporting if caller.future not in refused]
        return answers + self._write(reporting, self._reports.write)

    def _advance(self, callers: Sequence[_Steps]) -> _Answers:
        """Apply the steps of all of them in one go; where that fails, each by itself."""
        answers = self._write(callers, self._steps.write)
        for place, (future, answer) in enumerate(answers):
            if isinstance(answer, Exception):
                answers[place] = future, [self._step(row) for row in callers[place].rows]
        return answers

    def _step(self, row: Asked) -> Answer:
        answers = self._alone(partial(_apply, self._steps.write, (row,)))
        return answers if isinstance(answers, Exception) else answers[0]

    def _refused(self, callers: list[_Reports]) -> dict[asyncio.Future[Any], list[ReportOutcome]]:
        """Answer the callers that want all or nothing, and cannot have all.

        A report that is not written for the sake of another is answered as that one is.
        """
        whole = [caller for caller in callers if caller.whole]
        if not whole:
            return {}
        strangers = self._reports.strangers([r for caller in whole for r in caller.rows])
        refused = {}
        for caller in whole:
            reasons = [strangers.get(report.agent_id) for report in caller.rows]
            first = next((reason for reason in reasons if reason is not None), None)
            if first is not None:
                refused[caller.future] = [reason or first for reason in reasons]
        return refused

    def _write(self, callers: Sequence[_Reports | _Beat | _Steps], write: _Writes) -> _Answers:
        """Write what all of them ask for in one go, or else what each asks for by itself."""
        if not callers:
            return []
        together = [row for caller in callers for row in caller.rows]
        outcomes = self._alone(lambda _: write(together))
        if isinstance(outcomes, Exception):
            return [(c.future, self._alone(partial(_apply, write, c.rows))) for c in callers]
        answers, start = [], 0
        for caller in callers:
            end = start + len(caller.rows)
            answers.append((caller.future, outcomes[start:end]))
            start = end
        return answers

    def _alone(self, run: Run) -> Any:
        """Return the result of `run`, or its error once all that it did is undone.

        Raises the error when the transaction cannot go on.
        """
        self._connection.execute("SAVEPOINT alone")
        self.runs.settle()
        try:
            result = run(self._connection)
        except Exception as error:
            if self._explain(error) or not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO alone")
            self.runs.undo()
            result = error
        self._connection.execute("RELEASE alone")
        return result

    def _failure(self, error: Exception) -> StoreUnavailable:
        if isinstance(error, StoreUnavailable):
            failure = StoreUnavailable(error.message, **error.context)  # each caller has its own
        else:
            failure = self._explain(error) or StoreUnavailable(
                f"Nothing was written, since the transaction failed: {error}"
            )
        failure.__cause__ = error
        return failure

    def _sync_commits(self, wanted: bool) -> None:
        """Have the next commit wait for the disk, or not; the log stays in order either way."""
        if wanted is not self._is_synced:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._is_synced = wanted

    def _check_memory(self) -> None:
        """Forget all once another program has written to the file, which nobody should."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            self._data_version = version
            self._forget()

    def _forget(self) -> None:
        self.runs.clear()
        self.turns.forget()
        self.workflows.clear()

    def _roll_back(self) -> None:
        self._forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _apply(write: _Writes, rows: Sequence[Any], _: sqlite3.Connection) -> Sequence[Any]:
    return write(rows)


def _answer(answers: _Answers) -> None:
    """Wake each event loop once for all of its callers."""
    by_loop: dict[asyncio.AbstractEventLoop, _Answers] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].get_loop(), []).append(answer)
    for loop, its in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, its)
        except RuntimeError:  # the loop is closed, so nobody waits any more
            pass


def _settle(answers: _Answers) -> None:
    for future, result in answers:
        if future.done():  # cancelled
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
