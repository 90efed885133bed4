"""What Ops-Core tells Prometheus: plain numbers, put into its words only when it asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
from opscore_middleware.core.store import CountingStore
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.server.ingest import Ingest

__all__ = ["Metrics"]

_FRESH: Final = 5 * SECOND
"""How long the fleet is not counted again, in microseconds."""


class Metrics:
    """Everything that is measured of one server.

    Args:
        opscore: the use cases, with what they have taken.
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
        ingest: Ingest,
        refusals: Counter[str],
        watchers: Callable[[], int],
        release: str,
        clock: Clock,
    ) -> None:
        self._opscore = opscore
        self._clock = clock
        self._fleet: Fleet | None = None
        self._counted_at = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Taken(opscore, ingest, refusals))
        self._registry.register(_Server(opscore, watchers, release, lambda: self._fleet))
        ProcessCollector(registry=self._registry)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type, in the form that the reader prefers."""
        now = self._clock()
        if self._fleet is None or not 0 <= now - self._counted_at < _FRESH:
            try:
                self._fleet = await self._opscore.fleet()
            except StoreUnavailable:
                self._fleet = None  # nobody knows, and the rest is wanted all the more
            self._counted_at = now
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


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
        bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
        counts = accumulate(histogram.counts)
        buckets = [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]
        family.add_metric([value], buckets=buckets, sum_value=histogram.sum)
    return family
