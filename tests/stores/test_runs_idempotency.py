"""What is created under a key is created once, and a repeat gets the same answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from opscore_middleware.core.clock import SECOND, from_micros
from opscore_middleware.core.models import Registration
from opscore_middleware.core.runs.records import Creation, Repeated
from opscore_middleware.core.sessions import Session, SessionState
from opscore_middleware.errors import AgentNotFound, IdempotencyMismatch
from tests.stores.run_support import DEFINITION, Everything, runs, task
from tests.stores.support import NOW, add

pytestmark = pytest.mark.asyncio

UNTIL = NOW + 60 * SECOND


def creation(key: str = "k", fingerprint: str = "f", *, until: int = UNTIL) -> Creation:
    return Creation(key, fingerprint, until, answer=repr)


async def workflow(store: Everything, n: int, made: Creation, now: int) -> object:
    return await store.save_workflow(f"w{n}", f"{n}", now=now, creation=made)


async def run(store: Everything, n: int, made: Creation, now: int) -> object:
    new = runs(task(f"t{n}"), session_id=f"s{n}", created_at=now)
    return await store.start_run(new, creation=made)


async def session(store: Everything, n: int, made: Creation, now: int) -> object:
    moment = from_micros(now)
    new = Session(
        session_id=f"s{n}",
        agent_id="a",
        state=SessionState.STARTED,
        created_at=moment,
        updated_at=moment,
    )
    return await store.start_session(new, creation=made)


async def agent(store: Everything, n: int, made: Creation, now: int) -> object:
    new = Registration(agent_name=f"n{n}")
    return await store.register(new, new_id=f"new{n}", now=now, creation=made)


Creates = Callable[[Everything, int, Creation, int], Awaitable[object]]
everything = pytest.mark.parametrize("creates", [workflow, run, session, agent])


async def ready(store: Everything) -> None:
    await add(store)
    await store.save_workflow("w", DEFINITION, now=NOW)


async def census(store: Everything) -> tuple[int, int, int]:
    """How many there are of all that can be created."""
    query: dict[str, Any] = {"after": None, "limit": 99}
    return (
        len(await store.list_workflows(**query)),
        len(await store.list_sessions(agent_id=None, state=None, **query)),
        len(await store.list_agents(name=None, capability=None, **query)),
    )


@everything
async def test_a_repeat_gets_the_first_answer_and_creates_nothing(
    running: Everything, creates: Creates
) -> None:
    await ready(running)
    first = await creates(running, 1, creation(), NOW)
    before = await census(running)
    with pytest.raises(Repeated) as raised:
        await creates(running, 2, creation(), NOW + SECOND)
    assert raised.value.answer == repr(first)
    assert await census(running) == before


@everything
async def test_the_same_key_for_something_else_is_refused(
    running: Everything, creates: Creates
) -> None:
    await ready(running)
    await creates(running, 1, creation(), NOW)
    before = await census(running)
    with pytest.raises(IdempotencyMismatch):
        await creates(running, 2, creation(fingerprint="other"), NOW)
    assert await census(running) == before


@everything
async def test_another_key_or_a_later_time_creates_anew(
    running: Everything, creates: Creates
) -> None:
    await ready(running)
    await creates(running, 1, creation(), NOW)
    before = await census(running)
    await creates(running, 2, creation("another"), NOW)
    await creates(running, 3, creation(until=UNTIL + 60 * SECOND), UNTIL + 1)
    assert sum(await census(running)) == sum(before) + 2
    with pytest.raises(Repeated):
        await creates(running, 4, creation(), UNTIL + 2)


@everything
async def test_many_at_once_create_one(running: Everything, creates: Creates) -> None:
    await ready(running)
    before = await census(running)
    answers = await asyncio.gather(
        *(creates(running, n, creation(), NOW) for n in range(20)), return_exceptions=True
    )
    (first,) = [answer for answer in answers if not isinstance(answer, Exception)]
    assert {a.answer for a in answers if isinstance(a, Repeated)} == {repr(first)}
    assert sum(isinstance(answer, Repeated) for answer in answers) == 19
    assert sum(await census(running)) == sum(before) + 1


async def test_what_fails_keeps_no_key(running: Everything) -> None:
    await running.save_workflow("w", DEFINITION, now=NOW)
    with pytest.raises(AgentNotFound):
        await run(running, 1, creation(), NOW)
    await add(running)
    await run(running, 1, creation(), NOW)
    assert await running.get_run("s1") is not None
