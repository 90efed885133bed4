"""The store against a model of a few lines: any order, repeats, losses, several instances."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from opscore_middleware.core.records import ReportOutcome, StoredReport
from opscore_middleware.core.store import Store
from opscore_middleware.stores import open_store
from tests.stores.support import NOW, add, instances, said, told

Call = tuple[bool, list[StoredReport]]
KNOWN, STRANGER = ("a", "b"), "x"


@contextmanager
def opened(address: str) -> Iterator[tuple[Callable[[Coroutine[Any, Any, None]], None], Store]]:
    """A store that stays open for all examples, and a way to run a coroutine on its loop."""
    with asyncio.Runner() as runner:
        store = open_store(address)
        runner.run(store.open())
        try:
            yield runner.run, store
        finally:
            runner.run(store.close())


class Current(NamedTuple):
    """What an instance shows."""

    state: str
    details: str | None
    timestamp: int
    effective_at: int
    sequence: int | None
    started_at: int | None
    last_seen_at: int


class Model:
    """What `Store.apply_reports` promises, one report at a time."""

    def __init__(self) -> None:
        self.current: dict[tuple[str, str | None], Current] = {}
        self.history: dict[str, list[StoredReport]] = {agent: [] for agent in KNOWN}
        self._written: set[tuple[str, str | None, int]] = set()

    def call(self, whole: bool, reports: list[StoredReport]) -> list[ReportOutcome]:
        if whole and any(report.agent_id == STRANGER for report in reports):
            return [ReportOutcome.UNKNOWN_AGENT] * len(reports)
        return [self._take(report) for report in reports]

    def _take(self, report: StoredReport) -> ReportOutcome:
        if report.agent_id == STRANGER:
            return ReportOutcome.UNKNOWN_AGENT
        self._show(report)
        if report.sequence is not None:
            once = (report.agent_id, report.instance_id, report.sequence)
            if once in self._written:
                return ReportOutcome.DUPLICATE
            self._written.add(once)
        self.history[report.agent_id].append(report)
        return ReportOutcome.ACCEPTED

    def _show(self, report: StoredReport) -> None:
        key = (report.agent_id, report.instance_id)
        before = self.current.get(key)
        if before is None or self._replaces(report, before):
            after = Current(
                report.state,
                report.details,
                report.timestamp,
                report.effective_at,
                report.sequence or (before and before.sequence),
                report.started_at,
                report.received_at,
            )
        else:
            after = before
        if before is not None:
            started = before.started_at if before.started_at is not None else report.started_at
            seen = max(before.last_seen_at, report.received_at)
            after = after._replace(started_at=started, last_seen_at=seen)
        self.current[key] = after

    @staticmethod
    def _replaces(report: StoredReport, before: Current) -> bool:
        if report.instance_id is not None and before.state == "finished":
            return False
        if report.sequence is not None:
            return report.sequence > (before.sequence or 0)
        return report.effective_at >= before.effective_at


def reports(*agents: str) -> st.SearchStrategy[StoredReport]:
    """Reports from few instances with few sequences, so that they meet."""
    moments = st.integers(0, 6).map(lambda n: NOW + n)
    return st.builds(
        said,
        st.sampled_from(["idle", "active", "error", "finished", "paused"]),
        agent_id=st.sampled_from(agents),
        instance_id=st.sampled_from(["i", "i", "j", None]),
        sequence=st.none() | st.integers(1, 6),
        details=st.none() | st.sampled_from(["{}", '{"k":1}']),
        timestamp=moments,
        effective_at=moments,
        received_at=moments,
        started_at=st.none() | moments,
        coalesced=st.integers(0, 3),
        errors=st.integers(0, 3),
    ).map(lambda r: r if r.instance_id else r._replace(sequence=None))


CALLS = st.lists(
    st.tuples(st.booleans(), st.lists(reports(*KNOWN, STRANGER), min_size=1, max_size=6)),
    max_size=10,
)


async def agrees(store: Store, example: int, calls: list[Call], *, at_once: bool) -> None:
    model = Model()
    ids = {agent: f"{agent}{example}" for agent in (*KNOWN, STRANGER)}
    for agent in KNOWN:
        await add(store, ids[agent])

    async def apply(whole: bool, batch: list[StoredReport]) -> Sequence[ReportOutcome]:
        renamed = [report._replace(agent_id=ids[report.agent_id]) for report in batch]
        return await store.apply_reports(renamed, whole=whole)

    expected = [model.call(whole, batch) for whole, batch in calls]
    if at_once:
        outcomes = await asyncio.gather(*(apply(whole, batch) for whole, batch in calls))
    else:
        outcomes = [await apply(whole, batch) for whole, batch in calls]
    assert [list(outcome) for outcome in outcomes] == expected
    for agent in KNOWN:
        await shows(store, ids[agent], agent, model)


async def shows(store: Store, agent_id: str, agent: str, model: Model) -> None:
    current = {name: seen for (owner, name), seen in model.current.items() if owner == agent}
    assert {
        name: (i.state, i.details, i.timestamp, i.sequence, i.started_at, i.last_seen_at)
        for name, i in (await instances(store, agent_id)).items()
    } == {
        name: (s.state, s.details, s.timestamp, s.sequence, s.started_at, s.last_seen_at)
        for name, s in current.items()
    }
    history = await told(store, agent_id)
    assert [(t.instance_id, t.sequence, t.state, t.coalesced, t.errors) for t in history] == [
        (r.instance_id, r.sequence, r.state, r.coalesced, r.errors) for r in model.history[agent]
    ]
    event_ids = [t.event_id for t in history]
    assert event_ids == sorted(set(event_ids))


def test_reports_end_as_the_model_says(address: str) -> None:
    examples = itertools.count()
    with opened(address) as (run, store):

        @settings(max_examples=120, deadline=None)
        @given(CALLS, st.booleans())
        def holds(calls: list[Call], at_once: bool) -> None:
            run(agrees(store, next(examples), calls, at_once=at_once))

        holds()


async def converges(store: Store, agent_id: str, arrivals: list[int], size: int) -> None:
    await add(store, agent_id)
    sent = [
        said(f"s{sequence}", at=-position, agent_id=agent_id, sequence=sequence)
        for position, sequence in enumerate(arrivals)
    ]
    for start in range(0, len(sent), size):
        await store.apply_reports(sent[start : start + size])
    (instance,) = (await instances(store, agent_id)).values()
    newest = max(arrivals)
    assert (instance.state, instance.sequence) == (f"s{newest}", newest)
    told_once = [t.sequence for t in await told(store, agent_id)]
    assert told_once == list(dict.fromkeys(arrivals))


def test_in_any_order_and_however_often_the_highest_sequence_is_current(address: str) -> None:
    examples = itertools.count()
    with opened(address) as (run, store):

        @settings(max_examples=80, deadline=None)
        @given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 60))
        def holds(arrivals: list[int], size: int) -> None:
            run(converges(store, f"c{next(examples)}", arrivals, size))

        holds()
