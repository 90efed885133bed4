"""Run every benchmark, or the ones named: `python -m tests.benchmarks request ingest`.

The long ones run only when they are named, one at a time, and take options:
`python -m tests.benchmarks scale --events 100000`.
"""

from __future__ import annotations

import sys

from tests.benchmarks import (
    blackhole,
    bodies,
    dispatch,
    ingest,
    latency,
    memory,
    request,
    restart,
    scale,
    tasks_http,
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
LONG = {
    "scale": scale.main,
    "restart": restart.main,
    "dispatch": dispatch.main,
    "tasks": tasks_http.main,
}


def main(names: list[str]) -> int:
    if names and names[0] in LONG:
        LONG[names[0]](names[1:])
        return 0
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"No benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS | LONG)}")
        return 2
    for name in names or BENCHMARKS:
        print(f"\n=== {name}")
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
