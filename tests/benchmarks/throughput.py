"""What of a real server's throughput is kept: requests a second with us and without, in turn.

uvicorn, the load (wrk where it is installed) and Ops-Core are processes of their own. Each pair has
new ones: two processes of one program differ by some percent for all of their life (where their
memory lies, how their strings hash), which no number of rounds with the same two would show.

On a machine with other work to do the requests a second say more of that than of us; what the
server needs of the processor for as many requests (the reporter's thread included) hardly depends
on it, and is what bounds a busy server.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Final, NamedTuple

from opscore_middleware.testing import run_opscore
from tests.benchmarks.load import ASK, JOB, Asked, load, load_with_wrk, serving

PAIRS = 10
LAPS = 3
CONNECTIONS = 16
REQUESTS = 8_000

KINDS: Final = (
    ("starlette", JOB, "a route that does nothing, bare Starlette"),
    ("fastapi", JOB, "a route that does nothing, FastAPI"),
    ("fastapi", ASK, "a route with JSON, FastAPI and pydantic"),
)
SERVERS: Final = {
    "uvicorn as pip installs it (asyncio, h11)": ("--loop", "asyncio", "--http", "h11"),
    "uvicorn[standard] (uvloop, httptools)": ("--loop", "uvloop", "--http", "httptools"),
}


class Lap(NamedTuple):
    """Seconds for one request, by the clock and by the server's own use of the processor."""

    clock: float
    processor: float


def processor_time(pid: int) -> float:
    """Return the seconds of processor time that a process has used so far, in all its threads."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((t / "schedstat").read_text(encoding="ascii").split()[0]) for t in threads) / 1e9


def lap(pid: int, port: int, asked: Asked = JOB) -> Lap:
    """Put one server under load."""
    before = processor_time(pid)
    if shutil.which("wrk"):
        rate, requests = load_with_wrk(port, connections=CONNECTIONS, seconds=1, asked=asked)
    else:
        rate, took = load(port, connections=CONNECTIONS, requests=REQUESTS)
        requests = len(took)
    return Lap(1 / rate, (processor_time(pid) - before) / requests)


def pair(
    kind: str, asked: Asked, options: tuple[str, ...], environ: dict[str, str]
) -> tuple[Lap, Lap]:
    """Return the shortest lap of each of two new servers, without us and with us."""
    with (
        serving(f"bare_{kind}", *options) as (bare, bare_port),
        serving(f"watched_{kind}", *options, **environ) as (watched, watched_port),
    ):
        plain, ours = (bare.pid, bare_port), (watched.pid, watched_port)
        for server in (plain, ours):
            lap(*server, asked)
        laps: dict[tuple[int, int], list[Lap]] = {plain: [], ours: []}
        for turn in range(LAPS):
            for server in (plain, ours) if turn % 2 else (ours, plain):
                laps[server].append(lap(*server, asked))
    without, with_us = (
        Lap(min(x.clock for x in laps[s]), min(x.processor for x in laps[s])) for s in (plain, ours)
    )
    return without, with_us


def show(what: str, pairs: list[tuple[float, float]]) -> None:
    """Print what is kept, and what a request takes, in microseconds."""
    low, kept, high = statistics.quantiles([without / with_us for without, with_us in pairs], n=4)
    each = [statistics.median(side) * 1e6 for side in zip(*pairs, strict=True)]
    print(
        f"  kept {what:18} median {kept:.3f} ({low:.3f} to {high:.3f});"
        f" a request took {each[0]:.1f} and {each[1]:.1f} microseconds"
    )


def main() -> None:
    load_is_from = "wrk" if shutil.which("wrk") else "a client of our own"
    print(f"requests from {load_is_from}, {CONNECTIONS} connections, {PAIRS} alternating pairs")
    with run_opscore() as opscore:
        for server, options in SERVERS.items():
            for kind, asked, what in KINDS:
                if asked is not JOB and shutil.which("wrk") is None:
                    continue  # the client of our own asks for one thing alone
                print(f" {what}, {server}")
                pairs = [pair(kind, asked, options, opscore.environ) for _ in range(PAIRS)]
                show("by the clock", [(a.clock, b.clock) for a, b in pairs])
                show("by the processor", [(a.processor, b.processor) for a, b in pairs])


if __name__ == "__main__":
    main()
