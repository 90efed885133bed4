"""Runs that begin by the clock: on time, once, and after an outage as was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from opscore_middleware.core.clock import to_micros
from opscore_middleware.core.runs.schedules import CAUGHT_UP
from opscore_middleware.core.sessions import SessionQuery, SessionStart
from opscore_middleware.errors import AgentDeregistered
from tests.core.engine_support import Bench, benched
from tests.core.play import one

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched() as bench:
        await bench.agent()
        begin = bench.time.replace(hour=12, minute=0, second=30, microsecond=0)
        bench.clock.now = to_micros(begin)
        yield bench


async def scheduled(bench: Bench, **fields: Any) -> None:
    """Keep a workflow that begins each quarter of an hour."""
    document = {
        "id": "w",
        "name": "W",
        "schedule": "*/15 * * * *",
        "agentId": "a",
        "tasks": [one("a")],
        **fields,
    }
    await bench.engine.save_workflow(document)


async def begun(bench: Bench) -> list[str]:
    """Return the times of the runs that there are."""
    page = await bench.core.sessions(SessionQuery(limit=1000))
    return sorted(session.session_id[-9:-1] for session in page.items)


async def test_a_run_begins_when_its_time_has_come_and_once(bench: Bench) -> None:
    await scheduled(bench)
    assert (await bench.engine.start_due()).started == 0
    bench.clock.move(14 * 60 + 29)
    assert (await bench.engine.start_due()).started == 0
    bench.clock.move(1)
    replica = bench.engine_anew()
    assert (await bench.engine.start_due()).started == 1
    assert (await replica.start_due()).started == 0
    assert (await bench.engine.start_due()).started == 0
    assert await begun(bench) == ["12:15:00"]
    bench.clock.move(15 * 60)
    assert (await replica.start_due()).started == 1
    assert await begun(bench) == ["12:15:00", "12:30:00"]


async def test_what_fell_into_an_outage_is_skipped(bench: Bench) -> None:
    await scheduled(bench)
    bench.clock.move(3600 - 30)
    after_restart = bench.engine_anew()
    assert (await after_restart.start_due()).started == 1
    assert await begun(bench) == ["13:00:00"]
    bench.clock.move(3600 + 61)
    assert (await bench.engine_anew().start_due()).started == 0


async def test_what_fell_into_an_outage_is_caught_up_on_where_that_is_asked(bench: Bench) -> None:
    await scheduled(bench, missed="catchUp")
    bench.clock.move(3600)
    assert (await bench.engine_anew().start_due()).started == 4
    assert await begun(bench) == ["12:15:00", "12:30:00", "12:45:00", "13:00:00"]


async def test_what_was_begun_and_forgotten_since_is_not_caught_up_on(bench: Bench) -> None:
    await scheduled(bench, missed="catchUp")
    bench.clock.move(15 * 60)
    assert (await bench.engine.start_due()).started == 1
    (session,) = (await bench.core.sessions()).items
    await bench.engine.cancel_session(session.session_id)
    bench.clock.move(10 * 60)
    await bench.store.prune_runs(before=bench.clock.now, limit=10)
    assert (await bench.engine_anew().start_due()).started == 0


async def test_catching_up_has_a_bound(bench: Bench) -> None:
    await scheduled(bench, schedule="* * * * *", missed="catchUp")
    bench.clock.move(86_400)
    assert (await bench.engine_anew().start_due()).started == CAUGHT_UP


async def test_a_change_of_the_schedule_is_followed(bench: Bench) -> None:
    await scheduled(bench)
    await bench.engine.start_due()
    await scheduled(bench, schedule="5 12 * * *")
    bench.clock.move(4 * 60 + 30)
    assert (await bench.engine.start_due()).started == 1
    await bench.engine.save_workflow({"id": "w", "name": "W", "tasks": [one("a")]})
    bench.clock.move(10 * 60)
    assert (await bench.engine.start_due()).started == 0
    assert await begun(bench) == ["12:05:00"]


async def test_a_clock_that_was_ahead_for_a_while_holds_up_no_schedule(bench: Bench) -> None:
    await scheduled(bench)
    bench.clock.move(86_400)
    await bench.engine.start_due()
    bench.clock.move(-86_400)
    assert (await bench.engine.start_due()).started == 0
    bench.clock.move(15 * 60)
    assert (await bench.engine.start_due()).started == 1


async def test_another_version_with_the_same_schedule_loses_none_of_its_times(
    bench: Bench,
) -> None:
    await scheduled(bench)
    assert (await bench.engine.start_due()).started == 0
    bench.clock.move(14 * 60 + 31)
    await scheduled(bench, name="another")
    assert (await bench.engine.start_due()).started == 1
    assert await begun(bench) == ["12:15:00"]


async def test_a_schedule_that_was_taken_back_elsewhere_starts_nothing_more(bench: Bench) -> None:
    await scheduled(bench)
    replica = bench.engine_anew()
    bench.clock.move(14 * 60 + 25)
    assert (await replica.start_due()).started == 0
    await bench.engine.save_workflow({"id": "w", "name": "W", "tasks": [one("a")]})
    bench.clock.move(5)
    assert (await replica.start_due()).started == 0


@pytest.mark.parametrize("year", [2040, 9999])
async def test_a_session_of_a_time_to_come_holds_up_no_schedule(bench: Bench, year: int) -> None:
    session_id = f"w@{year}-12-31T23:59:59Z"
    await bench.core.start_session(SessionStart(agent_id="a", session_id=session_id))
    await scheduled(bench)
    await scheduled(bench, id="x")
    assert (await bench.engine.start_due()).started == 0
    bench.clock.move(15 * 60)
    assert (await bench.engine.start_due()).started == 2


async def test_a_run_that_cannot_begin_is_told_and_holds_up_no_other(bench: Bench) -> None:
    await bench.agent("b")
    await scheduled(bench)
    await scheduled(bench, id="x", agentId="b")
    await bench.core.deregister("a")
    bench.clock.move(15 * 60)
    due = await bench.engine.start_due()
    assert due.started == 1
    ((workflow_id, error),) = due.refused
    assert workflow_id == "w"
    assert isinstance(error, AgentDeregistered)
    assert (await bench.engine.start_due()).refused == ()
