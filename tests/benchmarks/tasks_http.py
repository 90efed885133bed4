"""Tasks over HTTP, from a trigger to an agent's handler and back, by one `opscore serve`.

    python -m tests.benchmarks tasks --agents 64 --processes 2 --tasks 6000

The server keeps everything in a SQLite file. The agents are many to a process, so that they leave
the server's processor alone, but each has its own middleware, port and connection to
Ops-Core, as it would have by itself. Prints how many tasks a second are triggered, sent, done and
completed, as sessions of one task each and of twenty side by side; how long a trigger takes on an
idle fleet until the handler is entered; and how long ten tasks take that come one after the other.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import AgentQuery
from opscore_middleware.core.runs.tasks import ENDED, TaskState
from opscore_middleware.core.runs.views import SessionView, TaskQuery, WorkflowStart
from opscore_middleware.core.sessions import TERMINAL, SessionState
from tests.benchmarks.throughput import processor_time
from tests.support.processes import OpsCoreProcess, clean_environment, running_opscore
from tests.support.waiting import wait_until

__all__ = ["main"]

KEY = "benchmark-key"
CAPABILITY = "bench"
SIDE_BY_SIDE = 20
CHAIN = 10
TRIGGERS = 8
"""Connections that start sessions."""
PATIENCE = 60.0


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks tasks")
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=6000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--chains", type=int, default=20)
    options = parser.parse_args(list(arguments))
    with (
        tempfile.TemporaryDirectory() as directory,
        running_opscore(Path(directory), key=KEY) as opscore,
        OpsCoreClient(opscore.url, api_key=KEY) as client,
        _agents(opscore, client, options.agents, options.processes) as agent_id,
    ):
        print(f"one opscore serve (pid {opscore.pid}) on SQLite, {options.agents} agents")
        bench = _Bench(opscore, client, agent_id)
        waits = [bench.trigger() * 1000 for _ in range(options.samples)]
        print(f"  trigger to handler, p50     {median(waits):8.1f} ms")
        print(f"  trigger to handler, p99     {quantiles(waits, n=100)[98]:8.1f} ms")
        chains = [bench.chain() * 1000 for _ in range(options.chains)]
        print(f"  a chain of {CHAIN}, p50          {median(chains):8.1f} ms")
        for each in (1, SIDE_BY_SIDE):
            rate, spent = bench.flood(options.tasks // each, each)
            print(f"  in sessions of {each:>2}          {rate:8,.0f} tasks/s", end="")
            print(f"   {spent * 1000:.1f} ms of the server's processor time each")


class _Bench:
    """Starts sessions for an agent and sees what becomes of them."""

    def __init__(self, opscore: OpsCoreProcess, client: OpsCoreClient, agent_id: str) -> None:
        self._opscore = opscore
        self._client = client
        self._agent_id = agent_id
        one = {"name": "one", "agentCapability": CAPABILITY}
        self._workflows = {
            number: self._saved(
                f"beside-{number}", [{**one, "taskId": f"task_{n}"} for n in range(number)]
            )
            for number in (1, SIDE_BY_SIDE)
        }
        names = [f"task_{n}" for n in range(CHAIN)]
        steps = [{**one, "taskId": name} for name in names]
        for step, following in zip(steps, names[1:], strict=False):
            step["nextTaskId"] = following
        self._chain = self._saved("chain", steps)

    def trigger(self) -> float:
        """Return the seconds from the request that starts a task until its handler is entered."""
        began = time.monotonic()
        session = self._ended(self._start(self._workflows[1]))
        assert session.result is not None
        return float(session.result["task_0"]["entered"]) - began

    def chain(self) -> float:
        """Return the seconds that a session of tasks one after the other takes to its end."""
        began = time.time()
        session = self._ended(self._start(self._chain))
        assert session.ended_at is not None
        return session.ended_at.timestamp() - began

    def flood(self, sessions: int, each: int) -> tuple[float, float]:
        """Start many sessions; return how many tasks a second came to their end, and the processor
        time that each took of the server.
        """
        start, tasks = self._workflows[each], sessions * each
        began, before = time.time(), processor_time(self._opscore.pid)
        with ThreadPoolExecutor(TRIGGERS) as threads:
            session_ids = list(threads.map(self._start, itertools.repeat(start, sessions)))
        wait_until(self._is_all_over, timeout=PATIENCE, message="all tasks to be over")
        ended = [session.ended_at for session in map(self._ended, session_ids[-3 * TRIGGERS :])]
        took = max(moment.timestamp() for moment in ended if moment) - began
        return tasks / took, (processor_time(self._opscore.pid) - before) / tasks

    def _saved(self, name: str, tasks: Sequence[dict[str, Any]]) -> WorkflowStart:
        self._client.put_workflow({"id": name, "name": name, "tasks": tasks})
        return WorkflowStart(workflow_definition_id=name)

    def _start(self, start: WorkflowStart) -> str:
        return self._client.start_workflow(self._agent_id, start).session_id

    def _is_all_over(self) -> bool:
        unended = (TaskQuery(state=state, limit=1) for state in TaskState if state not in ENDED)
        return not any(self._client.list_tasks(query).items for query in unended)

    def _ended(self, session_id: str) -> SessionView:
        session = wait_until(
            lambda: (
                one if (one := self._client.get_session(session_id)).state in TERMINAL else None
            ),
            timeout=PATIENCE,
            message=f"session {session_id} to end",
        )
        assert session is not None
        assert session.state is SessionState.COMPLETED, session.error
        return session


@contextmanager
def _agents(
    opscore: OpsCoreProcess, client: OpsCoreClient, agents: int, processes: int
) -> Iterator[str]:
    """Run agents until all are known as idle and the block ends; yield the id of one."""
    shares = [agents // processes + (number < agents % processes) for number in range(processes)]
    command = [sys.executable, "-m", "tests.benchmarks.task_agents"]
    env = clean_environment(OPSCORE_API_URL=opscore.url, OPSCORE_API_KEY=KEY)
    running = [
        subprocess.Popen([*command, str(share), CAPABILITY], env=env) for share in shares if share
    ]
    query = AgentQuery(state="idle", limit=1000)
    try:
        wait_until(
            lambda: len(client.list_agents(query).items) == agents,
            timeout=PATIENCE,
            message=f"{agents} agents to be idle",
        )
        yield client.list_agents(query).items[0].agent_id
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
