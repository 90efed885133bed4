"""Run every benchmark, or the ones named: `python -m tests.benchmarks request ingest`."""

from __future__ import annotations

import sys

from tests.benchmarks import (
    blackhole,
    bodies,
    ingest,
    latency,
    memory,
    request,
    throughput,
    watch,
)

BENCHMARKS = {
    "request": request.main,
    "bodies": bodies.main,
    "throughput": throughput.main,
    "blackhole": blackhole.main,
    "latency": latency.main,
    "memory": memory.main,
    "ingest": ingest.main,
    "watch": watch.main,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"No benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
        return 2
    for name in names or BENCHMARKS:
        print(f"\n=== {name}")
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
