"""Which asyncio tasks are cancelled with a task of Ops-Core's."""

from __future__ import annotations

import asyncio

import pytest

from opscore_middleware.agent.cancellation import Cancellations
from opscore_middleware.agent.correlation import Task
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.anyio

TASK = Task("t.1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_each_asyncio_task_that_works_on_it_is_cancelled() -> None:
    cancellations = Cancellations(None)

    async def work() -> None:
        running = cancellations.add(TASK)
        try:
            await asyncio.Event().wait()
        finally:
            cancellations.discard(running)

    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await wait_until_async(lambda: len(cancellations._running) == 3)
    cancellations.cancel(["t.1"])
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in done] == [asyncio.CancelledError] * 3
    assert cancellations._running == []


async def test_a_unit_that_has_ended_is_not_cancelled_but_the_one_around_it_is() -> None:
    cancellations = Cancellations(None)
    outer = cancellations.add(TASK)
    inner = cancellations.add(TASK)
    cancellations.discard(inner)
    cancellations.cancel(["t.1"])
    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
    asyncio.current_task().uncancel()  # type: ignore[union-attr]
    cancellations.discard(outer)
    cancellations.cancel([])
    cancellations.cancel(["t.1"])
    await asyncio.sleep(0)


async def test_a_unit_that_ends_in_another_thread_is_forgotten() -> None:
    cancellations = Cancellations(None)
    running = cancellations.add(TASK)
    await asyncio.to_thread(cancellations.discard, running)
    assert cancellations._running == []


async def test_a_forked_child_cancels_nothing_of_its_parents() -> None:
    cancellations = Cancellations(None)
    running = cancellations.add(TASK)
    cancellations.reset()
    cancellations.cancel(["t.1"])
    await asyncio.sleep(0)
    cancellations.discard(running)


async def test_a_loop_that_is_closed_is_passed_over() -> None:
    cancellations = Cancellations(None)

    async def work() -> None:
        cancellations.add(TASK)

    await asyncio.to_thread(asyncio.run, work())
    cancellations.cancel(["t.1"])
    assert len(cancellations._running) == 1


def test_outside_of_asyncio_there_is_nothing_to_cancel() -> None:
    cancellations = Cancellations(None)
    assert cancellations.add(TASK) is None
    cancellations.discard(None)
    cancellations.cancel(["t.1"])
