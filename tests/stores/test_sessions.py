"""Sessions: kept once, changed one at a time, listed without gap or repeat."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from opscore_middleware.core.clock import SECOND, from_micros, to_micros
from opscore_middleware.core.sessions import Session, SessionState
from opscore_middleware.core.store import Store
from opscore_middleware.errors import AgentDeregistered, AgentNotFound, SessionEnded
from tests.stores.support import NOW, add

pytestmark = pytest.mark.asyncio


def session(session_id: str = "s", *, at: int = 0, **fields: Any) -> Session:
    """A session of agent `a`, started `at` seconds after NOW."""
    moment = from_micros(NOW + at * SECOND)
    values: dict[str, Any] = {
        "agent_id": "a",
        "state": SessionState.STARTED,
        "created_at": moment,
        "updated_at": moment,
        **fields,
    }
    return Session(session_id=session_id, **values)


def to(**update: Any) -> Callable[[Session], Session]:
    return lambda session: session.model_copy(update=update)


async def pages(store: Store, *, limit: int, **wanted: str) -> list[list[str]]:
    found: list[list[str]] = []
    after: tuple[int, str] | None = None
    query: dict[str, Any] = {"agent_id": None, "state": None, **wanted}
    while rows := await store.list_sessions(**query, after=after, limit=limit):
        found.append([row.session_id for row in rows])
        after = to_micros(rows[-1].created_at), rows[-1].session_id
    return found


async def test_a_session_is_kept_as_it_was_started_and_started_once(store: Store) -> None:
    await add(store)
    started = session(workflow_id="w", metadata={"k": [1, None, "ü"]})
    assert await store.start_session(started) == (started, True)
    assert await store.start_session(session(at=5)) == (started, False)
    assert await store.get_session("s") == started
    assert await store.get_session("other") is None


async def test_only_agents_that_can_report_have_sessions_started(store: Store) -> None:
    await add(store, "gone")
    await store.deregister("gone", now=NOW)
    with pytest.raises(AgentNotFound):
        await store.start_session(session(agent_id="nobody"))
    with pytest.raises(AgentDeregistered):
        await store.start_session(session(agent_id="gone"))
    assert await pages(store, limit=5) == []


async def test_a_change_is_kept_whole(store: Store) -> None:
    await add(store)
    await store.start_session(session())
    ended = from_micros(NOW + 9)
    changed = to(
        state=SessionState.FAILED,
        result=[1, {"a": None}],
        error={"type": "E"},
        metadata={},
        updated_at=ended,
        ended_at=ended,
    )
    expected = changed(session())
    assert await store.update_session("s", changed) == expected
    assert await store.get_session("s") == expected


async def test_what_json_does_not_have_is_answered_as_it_is_kept(store: Store) -> None:
    await add(store)
    kept, _ = await store.start_session(session(metadata={"n": math.nan}))
    assert kept.metadata == {"n": None}
    after = await store.update_session("s", to(result=math.inf))
    assert after is not None
    assert after.result is None


async def test_a_change_that_is_refused_changes_nothing(store: Store) -> None:
    await add(store)
    await store.start_session(session())

    def refuse(session: Session) -> Session:
        raise SessionEnded("no")

    with pytest.raises(SessionEnded):
        await store.update_session("s", refuse)
    assert await store.get_session("s") == session()
    assert await store.update_session("other", refuse) is None


async def test_changes_at_the_same_time_each_see_the_one_before(store: Store) -> None:
    await add(store)
    await store.start_session(session(result=0))

    def count(session: Session) -> Session:
        return session.model_copy(update={"result": session.result + 1})

    await asyncio.gather(*(store.update_session("s", count) for _ in range(50)))
    kept = await store.get_session("s")
    assert kept is not None
    assert kept.result == 50


async def test_sessions_are_listed_newest_first_by_agent_and_by_state(store: Store) -> None:
    await add(store)
    await add(store, "b")
    for n in range(5):
        await store.start_session(session(f"s{n}", at=n // 2, agent_id="ab"[n % 2]))
    await store.update_session("s2", to(state=SessionState.RUNNING))
    assert await pages(store, limit=2) == [["s4", "s3"], ["s2", "s1"], ["s0"]]
    assert await pages(store, limit=5, agent_id="b") == [["s3", "s1"]]
    assert await pages(store, limit=1, state="started") == [["s4"], ["s3"], ["s1"], ["s0"]]
    assert await pages(store, limit=5, agent_id="a", state="running") == [["s2"]]
    assert await pages(store, limit=5, agent_id="nobody") == []
