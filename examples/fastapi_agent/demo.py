"""An agent's life as it reaches Ops-Core, and a workflow: `python -m examples.fastapi_agent.demo`.

Starts Ops-Core and the example agent as real processes, sends the agent real requests, and prints
each transition as Ops-Core learns of it. Then two more agents work on one workflow, and each task
is printed as it is begun and ended. Exits with 0 only when what Ops-Core has learned is exactly
what has happened, and the workflow has gone as it should.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import yaml
from rich.console import Console

from examples.fastapi_agent.flow import Flow, OtherEnd
from examples.fastapi_agent.life import Life, OtherStates
from examples.fastapi_agent.processes import ProcessFailed, Server, free_ports
from examples.fastapi_agent.screen import Screen
from examples.fastapi_agent.work import Work
from opscore_middleware.client import AsyncOpsCoreClient
from opscore_middleware.core.models import AgentQuery
from opscore_middleware.errors import OpsCoreError

__all__ = ["main"]

ERROR_HOLD: Final = 1.0
"""How long the agent stays in `error` when nothing else happens, in seconds; 5 by default."""
PATIENCE: Final = 15.0
"""How long it may take until Ops-Core knows what a step has led to, in seconds."""
PAUSE: Final = 0.6
"""What a viewer gets between two steps, in seconds."""
WORKERS: Final = ("reader-1", "reader-2")
"""The agents that share the tasks of the workflow."""
DIGEST: Final = Path(__file__).with_name("digest.yaml")
STOPS: Final = (signal.SIGTERM, signal.SIGHUP)
FAILED: Final = 1
INTERRUPTED: Final = 130  # as shells have it after Ctrl-C


@dataclass(frozen=True)
class Step:
    """One thing that the demo does, and the states that must come of it."""

    says: str
    act: Callable[[], Awaitable[str]]
    leads_to: tuple[str, ...]


class Demo:
    """Ops-Core, the agent, and what is played with them.

    Args:
        directory: takes the database and the logs.
        screen: shows what happens.
    """

    def __init__(self, directory: Path, screen: Screen) -> None:
        self._directory = directory
        self._screen = screen
        self._key = secrets.token_urlsafe(24)
        self._ops_core_port, self._agent_port, *self._worker_ports = free_ports(2 + len(WORKERS))
        self.ops_core_url = f"http://127.0.0.1:{self._ops_core_port}"
        self.agent_url = f"http://127.0.0.1:{self._agent_port}"
        self.servers: list[Server] = []

    async def play(self, *, keep: bool) -> None:
        """Play all steps; with `keep`, all but the agent's end."""
        with self._screen.live():
            life = await self._play_all(keep=keep)
        self._screen.history(life.transitions)
        with self._screen.live_part("A workflow, shared by two agents", "Ops-Core tracks"):
            await self._run_workflow()
        if keep:
            self._screen.tells(self._what_to_try(str(life.agent_id)))
        else:
            docs = f"{self.ops_core_url}/docs"
            self._screen.tells(f"  API docs: {docs} (make demo KEEP=1 keeps them up)")

    async def _play_all(self, *, keep: bool) -> Life:
        self._screen.does("start Ops-Core")
        self._screen.gets(await self._start_ops_core())
        async with (
            AsyncOpsCoreClient(self.ops_core_url, api_key=self._key) as ops_core,
            httpx.AsyncClient(base_url=self.agent_url, timeout=PATIENCE) as agent,
            asyncio.TaskGroup() as tasks,
        ):
            life = Life(ops_core, self._screen.learns)
            following = tasks.create_task(life.follow())
            await self._play(self._steps(Work(agent, self._screen.waits), keep=keep), life)
            following.cancel()
        return life

    async def _run_workflow(self) -> None:
        """Have two agents work on one workflow. Raises `OtherEnd` unless it goes as it should."""
        async with AsyncOpsCoreClient(self.ops_core_url, api_key=self._key) as ops_core:
            self._screen.does(f"start two agents, {' and '.join(WORKERS)}")
            starting = (self._start_worker(name, ops_core) for name in WORKERS)
            names = dict(zip(await asyncio.gather(*starting), WORKERS, strict=True))
            self._screen.does(f"run {DIGEST.name}")
            flow = Flow(
                ops_core, lambda task: self._screen.works(task, names[task.assigned_agent_id or ""])
            )
            definition = yaml.safe_load(DIGEST.read_text(encoding="utf-8"))
            await flow.run(definition, next(iter(names)), within=PATIENCE)
            flow.went(failed={"print"}, shared={"summaries": len(WORKERS)})
            self._screen.gets("print failed twice, so keep was done")

    async def _start_worker(self, name: str, ops_core: AsyncOpsCoreClient) -> str:
        """Start an agent that takes tasks; return its id once Ops-Core knows that it is free."""
        port = self._worker_ports[WORKERS.index(name)]
        settings = {
            "OPSCORE_AGENT_NAME": name,
            "OPSCORE_AGENT_CAPABILITIES": "summarise",
            "OPSCORE_CONTACT_ENDPOINT": f"http://127.0.0.1:{port}/tasks",
        }
        await self._start_app(name, port, settings)
        for _ in range(int(PATIENCE / 0.05)):
            free = await ops_core.list_agents(AgentQuery(name=name, state="idle"))
            if free.items:
                return free.items[0].agent_id
            await asyncio.sleep(0.05)
        raise ProcessFailed(f"{name} was not idle at Ops-Core within {PATIENCE:g} s")

    def _steps(self, work: Work, *, keep: bool) -> list[Step]:
        steps = [
            Step("start the agent", self._start_agent, ("initializing", "idle")),
            Step("POST /summarise", work.quick, ("active", "idle")),
            Step("POST /summarise/slow, for 2 s", work.slow, ("active", "idle")),
            Step("POST /summarise/slow, two overlapping", work.overlapping, ("active", "idle")),
            Step("POST /summarise/stream", work.streaming, ("active", "idle")),
            Step("POST /fail", work.failing, ("active", "error")),
            Step(f"wait: an error is held for {ERROR_HOLD:g} s", self._wait, ("idle",)),
        ]
        stop = Step("SIGTERM to the agent", self._stop_agent, ("draining", "finished"))
        return steps if keep else [*steps, stop]

    async def _play(self, steps: Sequence[Step], life: Life) -> None:
        expected: list[str] = []
        for step in steps:
            expected += step.leads_to
            self._screen.does(step.says)
            if outcome := await step.act():
                self._screen.gets(outcome)
            await life.reaches(expected, within=PATIENCE)
            self._screen.waits("")
            await asyncio.sleep(PAUSE)
        life.states_are(expected)

    async def _start_ops_core(self) -> str:
        database = f"sqlite:///{self._directory / 'opscore.db'}"
        port = str(self._ops_core_port)
        command = [_script("opscore"), "serve", "--port", port, "--database", database]
        server = self._start("Ops-Core", command, {"OPSCORE_API_KEY": self._key})
        await server.answers(f"{self.ops_core_url}/health")
        return self.ops_core_url

    async def _start_agent(self) -> str:
        return await self._start_app("the agent", self._agent_port, {})

    async def _start_app(self, name: str, port: int, settings: dict[str, str]) -> str:
        reporting = {
            "OPSCORE_API_URL": self.ops_core_url,
            "OPSCORE_API_KEY": self._key,
            "OPSCORE_ERROR_HOLD": str(ERROR_HOLD),
        }
        command = [_script("uvicorn"), "examples.fastapi_agent.app:app", "--port", str(port)]
        url = f"http://127.0.0.1:{port}"
        await self._start(name, command, reporting | settings).answers(url)
        return url

    async def _stop_agent(self) -> str:
        await self.servers[-1].stops()
        return "its process has ended"

    async def _wait(self) -> str:
        return ""  # what is waited for is what Ops-Core learns

    def _start(self, name: str, command: Sequence[str], settings: dict[str, str]) -> Server:
        log = self._directory / f"{name.split()[-1].lower()}.log"
        server = Server(name, command, settings, log)
        self.servers.append(server)
        return server

    def _what_to_try(self, agent_id: str) -> str:
        pids = " ".join(str(server.pid) for server in self.servers)
        return f"""
All of them go on running. API docs: {self.ops_core_url}/docs

  Give the agent something to do, and something that fails:
    curl -N {self.agent_url}/summarise/slow \\
      -H 'Content-Type: application/json' -d '{{"seconds": 5}}'
    curl {self.agent_url}/fail \\
      -H 'Content-Type: application/json' -d '{{"message": "no ink"}}'

  Ask Ops-Core about it:
    export OPSCORE_API_URL={self.ops_core_url}
    export OPSCORE_API_KEY={self._key}
    KEY="Authorization: Bearer $OPSCORE_API_KEY"
    ID={agent_id}
    curl -H "$KEY" $OPSCORE_API_URL/v1/opscore/agents
    curl -H "$KEY" $OPSCORE_API_URL/v1/opscore/agent/$ID/state
    curl -H "$KEY" $OPSCORE_API_URL/v1/opscore/agents/$ID/history
    {_script("opscore")} agents history $ID

  Run the workflow again, and see who did what:
    {_script("opscore")} workflow run digest --agent $ID --watch
    {_script("opscore")} task list

  Stop them all, and remove what they wrote:
    kill {pids}
    rm -r {self._directory}
"""

    def end(self) -> None:
        """End what still runs."""
        for server in reversed(self.servers):
            server.end()


def _script(name: str) -> str:
    """Return the path of a command that is installed beside this Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise ProcessFailed(
            f"the command {name} is not installed beside {sys.executable}; run "
            f"{sys.executable} -m pip install '.[all]'"
        )
    return found


async def _run(demo: Demo, *, keep: bool) -> None:
    this = asyncio.current_task()
    assert this is not None  # noqa: S101 - the task of asyncio.run
    for stop in STOPS:
        asyncio.get_running_loop().add_signal_handler(stop, this.cancel)
    await demo.play(keep=keep)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold off signals: a second Ctrl-C while ending would leave processes behind."""
    before = {stop: signal.signal(stop, signal.SIG_IGN) for stop in (signal.SIGINT, *STOPS)}
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)


def _outcome(demo: Demo, screen: Screen, *, keep: bool) -> int:
    """Play, say what went wrong if anything did, and return the exit code."""
    code = 0
    try:
        asyncio.run(_run(demo, keep=keep))
    except* (KeyboardInterrupt, asyncio.CancelledError):
        code = INTERRUPTED
    except* (OtherStates, OtherEnd, ProcessFailed, OpsCoreError, httpx.HTTPError) as failures:
        for failure in failures.exceptions:
            screen.fails(str(failure) or type(failure).__name__)
        code = FAILED
    except* Exception as failures:
        screen.fails("".join(traceback.format_exception(failures)))
        code = FAILED
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the demo and return its exit code: 0, 1 when it failed, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m examples.fastapi_agent.demo")
    parser.add_argument("--keep", action="store_true", help="leave Ops-Core and the agents running")
    keep = parser.parse_args(arguments).keep
    screen = Screen(Console(highlight=False))
    directory = Path(tempfile.mkdtemp(prefix="opscore-demo-"))
    demo = Demo(directory, screen)
    code = FAILED
    try:
        code = _outcome(demo, screen, keep=keep)
        if code == FAILED:
            for server in demo.servers:
                screen.tells(f"\nThe last that {server.name} said:\n{server.tail()}")
    finally:
        # Whatever else fails, and be it the terminal that is gone.
        if code or not keep:
            with _undisturbed():
                demo.end()
                shutil.rmtree(directory)
    return code


if __name__ == "__main__":
    sys.exit(main())
