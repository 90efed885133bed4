"""Read by mypy, never run: what users get from each public name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import assert_type

import httpx
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware

from opscore_middleware import (
    AgentState,
    Failure,
    Integration,
    OpsCoreMiddleware,
    StateChange,
    TaskContext,
    TaskRouter,
    WorkUnit,
    track,
)
from opscore_middleware.agent.track import Tracked
from opscore_middleware.client import AsyncOpsCoreClient, OpsCoreClient
from opscore_middleware.core.models import Agent, AgentStateView, Page, Transition
from opscore_middleware.testing import (
    Quirks,
    ReceivedMessage,
    RunningOpsCore,
    SimulatedAgentKit,
    run_opscore,
)

# --- the middleware ------------------------------------------------------------------------------


def listen(change: StateChange) -> None:
    assert_type(change.state, AgentState)


def sign(value: object) -> Failure | None:
    return Failure("OutOfInk", "dry")


class Printing:
    name = "printing"
    module = "json"

    def attach(self, open_unit: Callable[[str | None], WorkUnit]) -> None:
        with open_unit("print") as unit:
            assert_type(unit, WorkUnit)
            unit.fail(Failure("OutOfInk", "dry"))


printing: Integration = Printing()
app = FastAPI()
app.add_middleware(OpsCoreMiddleware)
app.add_middleware(
    OpsCoreMiddleware,
    agent_name="research",
    capabilities=("search",),
    websockets="connection",
    outcome=[sign],
    redact=lambda details: None,
    on_transition=listen,
    on_cancel=lambda task_id: None,
    report_results=lambda result: None,
    integrations=["-mcp", printing],
    handle_signals=False,
    transport=lambda: httpx.HTTPTransport(),
    clock=lambda: 0.0,
)
Starlette(middleware=[Middleware(OpsCoreMiddleware, agent_name="research")])
agent = OpsCoreMiddleware(app, error_hold=1.5)
assert_type(agent.state, AgentState)
assert_type(agent.agent_id, str | None)
OpsCoreMiddleware(app, websockets="always")  # type: ignore[arg-type]
OpsCoreMiddleware(app, agent_nam="research")  # type: ignore[call-arg]

# --- tasks ---------------------------------------------------------------------------------------

tasks = TaskRouter()


@tasks.task("summarise", inline=True)
async def summarise(text: str, task: TaskContext) -> int:
    assert_type(task.task_id, str | None)
    await task.progress(0.5, "half")
    return len(text)


def blocking(text: str) -> str:
    return text


async def by_hand() -> None:
    assert_type(await summarise("ink", TaskContext(name="summarise")), int)


assert_type(tasks.names, list[str])
app.routes.append(tasks.route("/task"))
tasks.task("blocking")(blocking)  # type: ignore[type-var]

# --- track ---------------------------------------------------------------------------------------


@track
def plain(n: int) -> str:
    return str(n)


@track
async def coroutine(n: int) -> str:
    return str(n)


@track("counting")
def generator(n: int) -> Iterator[int]:
    yield n


@track("counting")
async def async_generator(n: int) -> AsyncIterator[int]:
    yield n


assert_type(plain(1), str)
assert_type(generator(1), Iterator[int])
assert_type(async_generator(1), AsyncIterator[int])
assert_type(track(), Tracked)
assert_type(track("name"), Tracked)
plain("1")  # type: ignore[arg-type]

with track("name") as unit:
    assert_type(unit, Tracked)


async def within() -> None:
    assert_type(await coroutine(1), str)
    async with track("name") as unit:
        assert_type(unit, Tracked)


# --- the clients ---------------------------------------------------------------------------------


def ask(client: OpsCoreClient) -> None:
    assert_type(client.get_agent("a"), Agent)
    assert_type(client.list_agents(), Page[Agent])
    assert_type(client.get_agent_state("a"), AgentStateView)
    assert_type(client.iter_history("a"), Iterator[Transition])


async def ask_async(client: AsyncOpsCoreClient) -> None:
    assert_type(await client.get_agent("a"), Agent)
    assert_type(await client.list_agents(), Page[Agent])
    assert_type(await client.get_agent_state("a"), AgentStateView)
    assert_type(client.iter_history("a"), AsyncIterator[Transition])


# --- testing -------------------------------------------------------------------------------------


def test_agent(opscore: RunningOpsCore) -> None:
    assert_type(opscore.states("research"), list[str])
    assert_type(opscore.wait_for("research", "idle"), Agent)
    assert_type(opscore.wait_for_states("research", "idle"), list[Transition])
    assert_type(opscore.environ, dict[str, str])


with run_opscore() as running:
    assert_type(running, RunningOpsCore)

kit = SimulatedAgentKit(secret="s", quirks=Quirks(webhook_lost=True))
assert_type(kit.messages, list[ReceivedMessage])
assert_type(kit.transport, Callable[[], httpx.AsyncBaseTransport])
