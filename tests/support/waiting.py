"""Waiting for an outcome, with a bound: the only place where a test sleeps."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

__all__ = ["TIMEOUT", "wait_until", "wait_until_async"]

T = TypeVar("T")

TIMEOUT = 30.0
"""How long an outcome may take before the test fails, in seconds: what comes at once on an idle
machine takes some on one that starts processes beside.
"""
_SHORTEST, _LONGEST, _SHARE = 0.002, 0.05, 0.1
"""The pauses between two looks: so many seconds, or a share of the time waited so far. To look
often at what takes long would take the processor from what is waited for.
"""


def wait_until(
    predicate: Callable[[], T], *, timeout: float = TIMEOUT, message: str = "the condition"
) -> T:
    """Ask `predicate` until its answer is true, and return that answer.

    Raises `AssertionError` with `message` and the last answer once `timeout` seconds are over.
    """
    began = time.monotonic()
    while not (answer := predicate()):
        waited = time.monotonic() - began
        if waited >= timeout:
            raise AssertionError(_overdue(message, timeout, answer))
        time.sleep(_pause(waited))
    return answer


async def wait_until_async(
    predicate: Callable[[], T | Awaitable[T]],
    *,
    timeout: float = TIMEOUT,
    message: str = "the condition",
) -> T:
    """Do the same on asyncio or trio, without holding up the loop; `predicate` may be async."""
    began = time.monotonic()
    while not (answer := await _ask(predicate)):
        waited = time.monotonic() - began
        if waited >= timeout:
            raise AssertionError(_overdue(message, timeout, answer))
        await anyio.sleep(_pause(waited))
    return answer


async def _ask(predicate: Callable[[], T | Awaitable[T]]) -> T:
    answer = predicate()
    return await answer if inspect.isawaitable(answer) else answer


def _pause(waited: float) -> float:
    return min(max(_SHORTEST, _SHARE * waited), _LONGEST)


def _overdue(message: str, timeout: float, answer: object) -> str:
    return f"waited {timeout:g} s in vain for {message}; the last answer was {answer!r}"
