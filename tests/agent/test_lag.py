"""How late a loop is: asked from outside it, whatever has become of it."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from opscore_middleware.agent.lag import LoopLag
from tests.agent.support import Clock
from tests.support.waiting import wait_until_async


@pytest.mark.anyio
async def test_a_loop_that_runs_answers_at_once() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    lag.attach()
    assert lag.measure() is None  # asked for the first time
    await wait_until_async(lambda: lag.measure() == 0.0)


@pytest.mark.anyio
async def test_a_loop_that_owes_an_answer_is_late_by_as_long() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    lag.attach()
    lag.measure()
    clock.advance(7)  # the loop did not run in between
    assert lag.measure() == 7
    clock.advance(3)
    assert lag.measure() == 10
    await anyio.lowlevel.checkpoint()
    await wait_until_async(lambda: lag.measure() == 0.0, timeout=2)


@pytest.mark.anyio
async def test_a_loop_that_was_late_is_said_to_have_been_once_it_answers() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    lag.attach()
    lag.measure()
    clock.advance(7)
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert lag.measure() == 7


def test_without_a_loop_nothing_is_said() -> None:
    lag = LoopLag()
    assert lag.measure() is None
    lag.attach()
    assert lag.measure() is None


def test_a_loop_that_is_closed_is_let_go_of() -> None:
    lag = LoopLag()

    async def attach() -> None:
        lag.attach()

    asyncio.run(attach())
    assert lag.measure() is None
    assert lag.measure() is None


@pytest.mark.anyio
async def test_a_forked_child_forgets_the_loop_of_its_parent() -> None:
    lag = LoopLag()
    lag.attach()
    lag.reset()
    assert lag.measure() is None
