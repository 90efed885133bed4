"""What Ops-Core tells Prometheus: plain numbers, put into its words only when it asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from opscore_middleware.core.clock import SECOND, Clock
from opscore_middleware.core.fleet import Fleet
from opscore_middleware.core.histogram import Histogram
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.tasks import ENDED, TaskState
from opscore_middleware.core.store import CountingStore
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.server.board import Seat
from opscore_middleware.server.dispatch.tally import Tally
from opscore_middleware.server.ingest import Ingest
from opscore_middleware.server.shared_metrics import SharedMetrics

__all__ = ["Metrics"]

_FRESH: Final = 5 * SECOND
"""How long the fleet is not counted again, in microseconds."""


class Metrics:
    """Everything that is measured of one server, or of all workers where there are several.

    Args:
        opscore: the use cases, with what they have taken.
        engine: workflows and dispatch.
        dispatched: what dispatch has counted.
        ingest: the routes under load, with what waits in them and how long they take.
        refusals: how often each code was answered.
        watchers: returns how many watch events right now.
        release: the version that runs.
        clock: returns now, in microseconds since the Unix epoch.
    """

    def __init__(
        self,
        opscore: OpsCore,
        *,
        engine: Engine,
        dispatched: Tally,
        ingest: Ingest,
        refusals: Counter[str],
        watchers: Callable[[], int],
        release: str,
        clock: Clock,
    ) -> None:
        self._opscore = opscore
        self._engine = engine
        self._clock = clock
        self._fleet: Fleet | None = None
        self._tasks: Mapping[TaskState, int] | None = None
        self._counted_at = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Taken(opscore, ingest, refusals))
        self._registry.register(_Server(opscore, watchers, release, lambda: self._fleet))
        self._registry.register(_Dispatched(engine, dispatched, lambda: self._tasks))
        ProcessCollector(registry=self._registry)
        self._told = self._registry

    def share(self, seat: Seat) -> SharedMetrics:
        """Tell what all workers measure from now on; returns what shows them what this one does."""
        shared = SharedMetrics(self._registry, seat)
        self._told = CollectorRegistry(auto_describe=False)
        self._told.register(shared)
        return shared

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type, in the form that the reader prefers."""
        now = self._clock()
        if self._fleet is None or not 0 <= now - self._counted_at < _FRESH:
            try:
                self._fleet = await self._opscore.fleet()
                self._tasks = await self._engine.store.unfinished()
            except StoreUnavailable:
                # Nobody knows, and the rest is wanted all the more.
                self._fleet = self._tasks = None
            self._counted_at = now
        encode, content_type = choose_encoder(accept)
        return encode(self._told), content_type


class _Taken(Collector):
    """What came in, and what became of it."""

    def __init__(self, opscore: OpsCore, ingest: Ingest, refusals: Counter[str]) -> None:
        self._opscore = opscore
        self._ingest = ingest
        self._refusals = refusals

    def collect(self) -> Iterator[Metric]:
        tally = self._opscore.tally
        yield _counter(
            "opscore_reports",
            "Reports that were taken: new ones, and repeats that changed nothing.",
            "outcome",
            [("accepted", tally.accepted), ("duplicate", tally.duplicates)],
        )
        yield CounterMetricFamily(
            "opscore_heartbeats", "Heartbeats that were taken.", value=tally.heartbeats
        )
        # A copy: a refusal may come in from elsewhere while this is put into words.
        yield _counter(
            "opscore_refusals",
            "Requests that were refused.",
            "code",
            sorted(self._refusals.copy().items()),
        )
        yield _gauge(
            "opscore_pending",
            "What waits to be written.",
            "what",
            [
                ("reports", self._ingest.reports.count),
                ("heartbeats", self._ingest.heartbeats.count),
            ],
        )
        yield _histogram(
            "opscore_ingest_duration_seconds",
            "How long reports and heartbeats took, from the key to the answer.",
            "route",
            self._ingest.durations.items(),
        )
        store = self._opscore.store
        if isinstance(store, CountingStore):
            yield _histogram(
                "opscore_commit_callers",
                "How many callers shared a commit.",
                "store",
                [(store.name, store.commits)],
            )


class _Server(Collector):
    """What the server is, and what it sees."""

    def __init__(
        self,
        opscore: OpsCore,
        watchers: Callable[[], int],
        release: str,
        fleet: Callable[[], Fleet | None],
    ) -> None:
        self._opscore = opscore
        self._watchers = watchers
        self._release = release
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "opscore_build",
            "What runs.",
            value={"version": self._release, "store": self._opscore.store.name},
        )
        yield GaugeMetricFamily(
            "opscore_watchers", "Who watches events right now.", value=self._watchers()
        )
        yield GaugeMetricFamily(
            "opscore_doubt",
            "1 while most of the fleet is silent and fell silent together.",
            value=self._opscore.doubt is not None,
        )
        fleet = self._fleet()
        if fleet is None:
            return
        yield _gauge("opscore_agents", "Agents by state.", "state", fleet.states.items())
        yield GaugeMetricFamily(
            "opscore_agents_lost", "Agents that vanished without a word.", value=fleet.lost
        )
        yield _gauge(
            "opscore_instances",
            "Instances that have not finished, by liveness.",
            "liveness",
            [(liveness.value, count) for liveness, count in fleet.liveness.items()],
        )


class _Dispatched(Collector):
    """What tasks there are, and what became of those that were given out."""

    def __init__(
        self,
        engine: Engine,
        tally: Tally,
        tasks: Callable[[], Mapping[TaskState, int] | None],
    ) -> None:
        self._engine = engine
        self._tally = tally
        self._tasks = tasks

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "opscore_task_claims", "Attempts that this server gave out.", value=self._tally.claims
        )
        sends = CounterMetricFamily(
            "opscore_task_sends",
            "Attempts that this server sent, by what became of them.",
            labels=["route", "outcome"],
        )
        for labels, count in sorted(self._tally.sends.copy().items()):
            sends.add_metric(labels, count)
        yield sends
        yield HistogramMetricFamily(
            "opscore_task_latency_seconds",
            "How long tasks that were ready waited until an agent had them.",
            buckets=_buckets(self._tally.latency),
            sum_value=self._tally.latency.sum,
        )
        yield _counter(
            "opscore_tasks_ended",
            "Tasks that ended, as far as this server saw to it.",
            "state",
            sorted((state.value, self._engine.ended[state]) for state in ENDED),
        )
        tasks = self._tasks()
        if tasks is not None:
            states = [state for state in TaskState if state not in ENDED]
            yield _gauge(
                "opscore_tasks",
                "Tasks that have not ended, by state.",
                "state",
                [(state.value, tasks.get(state, 0)) for state in states],
            )


def _counter(
    name: str, help_text: str, label: str, values: Iterable[tuple[str, int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _gauge(
    name: str, help_text: str, label: str, values: Iterable[tuple[str, int]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _histogram(
    name: str, help_text: str, label: str, values: Iterable[tuple[str, Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help_text, labels=[label])
    for value, histogram in values:
        family.add_metric([value], buckets=_buckets(histogram), sum_value=histogram.sum)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    counts = accumulate(histogram.counts)
    return [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]
