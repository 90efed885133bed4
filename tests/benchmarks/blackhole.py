"""What an Ops-Core that accepts connections and never answers costs: p99 of requests, and the exit.

Each figure is of uvicorn in a process of its own, with us and without, in turn.
"""

from __future__ import annotations

import statistics

from tests.benchmarks.load import black_hole, load, serving, stop

PAIRS = 10
REQUESTS = 2_000
EXITS = 5


def p99(port: int) -> float:
    """Return the 99th percentile of what a request takes, in milliseconds."""
    _, took = load(port, connections=1, requests=REQUESTS)
    return statistics.quantiles(took, n=100)[98] * 1000


def requests(hole: str) -> None:
    print(f"p99 of {PAIRS * REQUESTS} requests each, milliseconds, {PAIRS} alternating pairs")
    more = []
    with serving("bare") as (_, plain), serving("watched", OPSCORE_API_URL=hole) as (_, ours):
        for port in (plain, ours):
            load(port, connections=1, requests=REQUESTS)
        for pair in range(PAIRS):
            order = (plain, ours) if pair % 2 else (ours, plain)
            ends = {port: p99(port) for port in order}
            more.append(ends[ours] - ends[plain])
            print(f"  without {ends[plain]:7.3f}   with {ends[ours]:7.3f}   {more[-1]:+.3f}")
    print(f"  added: median {statistics.median(more):+.3f} ms")


def exits(hole: str) -> None:
    took: dict[str, list[float]] = {"bare": [], "watched": []}
    for _ in range(EXITS):
        for factory, each in took.items():
            with serving(factory, OPSCORE_API_URL=hole) as (process, _port):
                each.append(stop(process))
    plain, ours = (statistics.median(each) for each in took.values())
    print(f"exit after SIGTERM: without {plain:.3f} s, with {ours:.3f} s, {ours - plain:+.3f} s")


def main() -> None:
    with black_hole() as hole:
        requests(hole)
        exits(hole)


if __name__ == "__main__":
    main()
