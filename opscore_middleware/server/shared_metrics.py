"""What several workers measure, told by whichever of them is asked.

prometheus_client has a way of its own for that, through files that outlive the workers; it is for
its own counters, not for numbers that are put into words when somebody asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from opscore_middleware.server.board import Seat

__all__ = ["SharedMetrics"]

Key = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a sample, and its labels."""
Numbers = Mapping[str, Mapping[Key, float]]
"""The samples of a page, by the name of their family."""

_COUNTED: Final = frozenset({"counter", "histogram"})
_GAUGES: Final[Mapping[str, Callable[[Iterable[float]], float]]] = {
    "opscore_pending": sum,
    "opscore_watchers": sum,
    "opscore_doubt": max,
    "process_virtual_memory_bytes": sum,
    "process_resident_memory_bytes": sum,
    "process_open_fds": sum,
    "process_max_fds": sum,
    "process_start_time_seconds": min,
}
"""What those of all workers come to. All others are counted in the database, the same for all."""


class SharedMetrics(Collector):
    """The metrics of all workers.

    What is counted is added up, and a worker that takes another's place counts on from where that
    one was when it last wrote, so that no sum goes down.

    Args:
        own: what this worker measures.
        seat: where it writes that, and reads what others have written.
    """

    def __init__(self, own: CollectorRegistry, seat: Seat) -> None:
        self._own = own
        self._seat = seat
        self._before = _read(seat.page.read())

    def write(self) -> None:
        """Show the others what this worker measures."""
        self._write(list(self._own.collect()))

    def collect(self) -> Iterator[Metric]:
        own = list(self._own.collect())
        # At once: another that is asked next must not tell less.
        self._write(own)
        pages = [_read(page.read()) for page in self._seat.pages]
        for family in own:
            join = sum if family.type in _COUNTED else _GAUGES.get(family.name)
            yield family if join is None else _joined(family, pages, join)

    def _write(self, own: Iterable[Metric]) -> None:
        shown = [self._continued(family) for family in own if _is_shared(family)]
        self._seat.page.write(_written(shown))

    def _continued(self, family: Metric) -> Metric:
        if family.type not in _COUNTED:
            return family
        return _joined(family, [_numbers([family]), self._before], sum)


def _is_shared(family: Metric) -> bool:
    return family.type in _COUNTED or family.name in _GAUGES


def _joined(
    family: Metric, pages: Sequence[Numbers], join: Callable[[Iterable[float]], float]
) -> Metric:
    """Return a family with the samples that any page has of it."""
    found: dict[Key, list[float]] = {}
    for page in pages:
        for key, value in page.get(family.name, {}).items():
            found.setdefault(key, []).append(value)
    joined = Metric(family.name, family.documentation, family.type, family.unit)
    for (name, labels), values in found.items():
        joined.add_sample(name, dict(labels), join(values))
    return joined


def _numbers(families: Iterable[Metric]) -> Numbers:
    return {
        family.name: {
            (sample.name, tuple(sample.labels.items())): float(sample.value)
            for sample in family.samples
        }
        for family in families
    }


def _written(families: Iterable[Metric]) -> bytes:
    numbers = _numbers(families)
    return json.dumps([[name, list(found.items())] for name, found in numbers.items()]).encode()


def _read(page: bytes) -> Numbers:
    return {
        name: {(sample, tuple((k, v) for k, v in labels)): value for (sample, labels), value in of}
        for name, of in json.loads(page or b"[]")
    }
