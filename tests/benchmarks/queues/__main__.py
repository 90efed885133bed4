"""Our engine beside the queues of the field, in one run: `python -m tests.benchmarks.queues`.

Each of the others is measured where its libraries are installed (`--python` names the environment
that has them, `make queues` makes one), on a PostgreSQL of the benchmark's own, which writes
through to the disk, or on a Redis of its own that keeps an append-only file and syncs it each
second, which is how Redis is run where jobs matter.

What is compared is the same of all: how soon a lone job's handler begins once it is enqueued, and
how many jobs are given out and completed per second, whose results are told as handlers end. That
Ops-Core also hears from agents, by reports, that they have begun is a line of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.benchmarks import dispatch
from tests.support.postgres import database_of_its_own, running_postgres
from tests.support.waiting import wait_until


class Queue(NamedTuple):
    """One of the others."""

    name: str
    module: str
    on: str


QUEUES = (
    Queue("pgqueuer", "with_pgqueuer", "postgres"),
    Queue("procrastinate", "with_procrastinate", "postgres"),
    Queue("saq", "with_saq", "redis"),
    Queue("taskiq", "with_taskiq", "redis"),
)


@contextmanager
def running_redis() -> Iterator[str]:
    """Run a Redis that keeps an append-only file. Raises `FileNotFoundError` without one."""
    command = shutil.which("redis-server")
    if command is None:
        raise FileNotFoundError("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [
                *(command, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: _listens(port), message="Redis to listen")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def _address(on: str) -> Iterator[str]:
    if on == "redis":
        with running_redis() as address:
            yield address
    else:
        with running_postgres() as server, database_of_its_own(server.url) as address:
            yield address


def compare(queue: Queue, python: str, jobs: int, at_once: int) -> str:
    """Measure one of the others, in a process of its own, and return a line about it."""
    try:
        with _address(queue.on) as address:
            done = subprocess.run(
                [
                    *(python, "-m", f"tests.benchmarks.queues.{queue.module}"),
                    *(address, str(jobs), str(at_once)),
                ],
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        return f"  {queue.name:14} not measured: {error}"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return f"  {queue.name:14} not measured: {last}"
    found = json.loads(done.stdout.splitlines()[-1])
    return (
        f"  {queue.name:14} {found['rate']:8,.0f} jobs/s   idle, enqueued until the handler begins"
        f" {found['wait']:7.2f} ms (p50)   on {queue.on}; durable: {found['durable']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.queues")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=100)
    parser.add_argument("--python", default=sys.executable, help="of the environment with them")
    options = parser.parse_args()
    print("opscore, every step of a task on disk before it is answered")
    print("  beside the others stand: enqueued until handed out, and told by results posted")
    dispatch.main(["--tasks", str(options.jobs), "--finished", "1000"])
    print(f"others, {options.jobs:,} jobs, {options.at_once} at once: given out until completed")
    for queue in QUEUES:
        print(compare(queue, options.python, options.jobs, options.at_once), flush=True)


if __name__ == "__main__":
    main()
