"""What of a real server's throughput is kept: requests a second with us and without, in turn.

uvicorn, the load and Ops-Core are processes of their own.
"""

from __future__ import annotations

import statistics

from opscore_middleware.testing import run_opscore
from tests.benchmarks.load import load, serving

PAIRS = 10
CONNECTIONS = 16
REQUESTS = 6_000


def main() -> None:
    print(f"requests a second under uvicorn, {CONNECTIONS} connections, {PAIRS} alternating pairs")
    kept = []
    with (
        run_opscore() as opscore,
        serving("bare") as (_, plain),
        serving("watched", **opscore.environ) as (_, ours),
    ):
        for port in (plain, ours):
            load(port, connections=CONNECTIONS, requests=REQUESTS)
        for pair in range(PAIRS):
            order = (plain, ours) if pair % 2 else (ours, plain)
            rates = {
                port: load(port, connections=CONNECTIONS, requests=REQUESTS)[0] for port in order
            }
            kept.append(rates[ours] / rates[plain])
            print(f"  without {rates[plain]:7.0f}   with {rates[ours]:7.0f}   {kept[-1]:.3f}")
    low, *_, high = statistics.quantiles(kept, n=4)
    print(f"  kept: median {statistics.median(kept):.3f} (quartiles {low:.3f}, {high:.3f})")


if __name__ == "__main__":
    main()
