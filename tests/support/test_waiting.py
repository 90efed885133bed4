"""The wait helper itself."""

from __future__ import annotations

import pytest

from tests.support.waiting import wait_until, wait_until_async


def test_an_outcome_that_comes_is_returned() -> None:
    answers = iter([0, 0, 7])
    assert wait_until(lambda: next(answers)) == 7


def test_an_outcome_that_never_comes_fails_with_its_name() -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.01 s in vain for the moon"):
        wait_until(lambda: None, timeout=0.01, message="the moon")


@pytest.mark.anyio
async def test_the_loop_is_waited_on_without_being_held_up() -> None:
    answers = iter([False, True])

    async def ask() -> bool:
        return next(answers)

    assert await wait_until_async(ask)
    with pytest.raises(AssertionError, match="the moon"):
        await wait_until_async(lambda: False, timeout=0.01, message="the moon")
