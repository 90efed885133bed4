"""What agents with open attempts say, heard by one replica at a time."""

from __future__ import annotations

import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.runs.records import Word
from opscore_middleware.core.runs.tasks import TaskState
from tests.stores.run_support import (
    Everything,
    advanced,
    claimed,
    ends,
    given,
    idle,
    sets,
    task,
)
from tests.stores.support import NOW, add, said

pytestmark = pytest.mark.asyncio

LEASE = 1000


async def test_words_are_those_of_agents_that_have_an_attempt(running: Everything) -> None:
    await idle(running, "a", None)
    await idle(running, "b")
    before = await running.last_event_id()
    await given(running, task(pinned="a"))
    await claimed(running)
    await running.apply_reports(
        [
            said("active", at=1, instance_id=None, details='{"opscore_task_id":"t.1"}'),
            said("active", agent_id="b", at=2),
            said("idle", at=3, instance_id="other", sequence=5),
        ]
    )
    last = await running.last_event_id()
    words, upto = await running.words(after=before, limit=9, since=NOW)
    details = '{"opscore_task_id":"t.1"}'
    assert words == [
        Word(words[0].event_id, "a", "", "active", details, NOW + 1, None),
        Word(last, "a", "other", "idle", None, NOW + 3, 5),
    ]
    assert upto == last
    assert await running.words(after=upto, limit=9, since=NOW) == ([], last)


async def test_words_come_in_pages_in_their_order(running: Everything) -> None:
    await idle(running)
    await given(running, task())
    await claimed(running)
    start = await running.last_event_id()
    await running.apply_reports([said("active", at=n, sequence=n) for n in range(1, 6)])
    heard: list[int] = []
    position = start
    for size in (2, 2, 1):
        words, position = await running.words(after=position, limit=2, since=NOW)
        assert len(words) == size
        heard += [word.received_at - NOW for word in words]
    assert heard == [1, 2, 3, 4, 5]
    assert position == await running.last_event_id()


async def test_without_open_attempts_everything_is_passed_over(running: Everything) -> None:
    await idle(running)
    last = await running.last_event_id()
    assert await running.words(after=0, limit=9, since=NOW) == ([], last)
    await given(running, task())
    await claimed(running)
    await advanced(running, ends())
    assert await running.words(after=0, limit=9, since=NOW) == ([], last)


async def test_words_are_those_of_agents_too_that_were_told_to_stop(running: Everything) -> None:
    await idle(running)
    await given(running, task())
    await claimed(running)
    await advanced(
        running, sets(state=TaskState.READY, ready_at=NOW + 9, stopped=True), now=NOW + 5
    )
    start = await running.last_event_id()
    await running.apply_reports([said("idle", at=6, sequence=7)])
    (word,), _ = await running.words(after=start, limit=9, since=NOW + 5)
    assert word.sequence == 7
    assert (await running.words(after=start, limit=9, since=NOW + 6))[0] == []


async def test_one_hears_at_a_time(running: Everything) -> None:
    async def takes(holder: str, at: int) -> int | None:
        return await running.hearing(holder=holder, lease=LEASE, now=NOW + at)

    assert await takes("one", 0) == 0
    assert await takes("two", 1) is None
    await running.heard(holder="one", event_id=7)
    assert await takes("one", LEASE - 1) == 7
    assert await takes("two", LEASE + 1) is None  # it was kept
    assert await takes("two", 3 * LEASE) == 7
    await running.heard(holder="one", event_id=99)
    await running.heard(holder="two", event_id=8)
    assert await takes("two", 3 * LEASE + 1) == 8
    assert await takes("one", 3 * LEASE + 2) is None


async def test_a_turn_that_was_taken_while_the_clock_was_ahead_is_nobodys(
    running: Everything,
) -> None:
    hour = 3600 * SECOND
    assert await running.hearing(holder="one", lease=LEASE, now=NOW + hour) == 0
    assert await running.hearing(holder="two", lease=LEASE, now=NOW + hour - LEASE) is None
    assert await running.hearing(holder="two", lease=LEASE, now=NOW) == 0
    assert await running.hearing(holder="one", lease=LEASE, now=NOW) is None


async def test_whoever_ever_named_its_work_or_had_an_instance_is_known_for_it(
    running: Everything,
) -> None:
    for agent_id in ("silent", "names", "forgotten"):
        await add(running, agent_id=agent_id)
    reports = [said("idle", agent_id=a, at=1, instance_id=None) for a in ("silent", "names")]
    named = said("active", agent_id="names", instance_id=None, details='{"opscore_task_id":"t.1"}')
    await running.apply_reports([named, *reports, said("finished", agent_id="forgotten")])
    later = NOW + 90_000 * SECOND
    await running.forget_instances(mark=Watermark(NOW, later), before=later, now=later)
    agents = ("silent", "names", "forgotten", "nobody")
    assert [await running.has_named(one) for one in agents] == [False, True, True, False]
