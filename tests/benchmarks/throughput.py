"""What of a real server's throughput is kept: requests a second with us and without, in turn.

uvicorn, the load and Ops-Core are processes of their own. On a machine with other work to do the
requests a second say more of that than of us; what the server needs of the processor for as many
requests (the reporter's thread included) hardly depends on it, and is what bounds a busy server.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import NamedTuple

from opscore_middleware.testing import run_opscore
from tests.benchmarks.load import load, serving

PAIRS = 10
CONNECTIONS = 16
REQUESTS = 10_000


class Lap(NamedTuple):
    """Requests a second, by the clock and by the server's own use of the processor."""

    rate: float
    per_processor: float


def processor_time(pid: int) -> float:
    """Return the seconds of processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def lap(pid: int, port: int) -> Lap:
    """Put one server under load."""
    before = processor_time(pid)
    rate, _ = load(port, connections=CONNECTIONS, requests=REQUESTS)
    return Lap(rate, REQUESTS / (processor_time(pid) - before))


def show(what: str, kept: list[float]) -> None:
    low, *_, high = statistics.quantiles(kept, n=4)
    print(f"  kept {what:24} median {statistics.median(kept):.3f} ({low:.3f} to {high:.3f})")


def main() -> None:
    print(f"requests a second under uvicorn, {CONNECTIONS} connections, {PAIRS} alternating pairs")
    by_clock, by_processor = [], []
    with (
        run_opscore() as opscore,
        serving("bare") as (bare, bare_port),
        serving("watched", **opscore.environ) as (watched, watched_port),
    ):
        plain, ours = (bare.pid, bare_port), (watched.pid, watched_port)
        for server in (plain, ours):
            lap(*server)
        for pair in range(PAIRS):
            order = (plain, ours) if pair % 2 else (ours, plain)
            laps = {server: lap(*server) for server in order}
            without, with_us = laps[plain], laps[ours]
            by_clock.append(with_us.rate / without.rate)
            by_processor.append(with_us.per_processor / without.per_processor)
            print(
                f"  by the clock {without.rate:7.0f} and {with_us.rate:7.0f} with us; by the "
                f"processor {without.per_processor:7.0f} and {with_us.per_processor:7.0f}"
            )
    show("by the clock", by_clock)
    show("by the processor", by_processor)


if __name__ == "__main__":
    main()
