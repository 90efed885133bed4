"""Concurrent callers of one kind, gathered for as long as the commit before theirs takes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from opscore_middleware.core.histogram import Histogram
from opscore_middleware.errors import StoreUnavailable

__all__ = ["Commit", "Gatherer"]

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

Commit = Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]]
"""Does what several callers ask for in one transaction, and answers each; an error answers all."""


class _Caller(NamedTuple, Generic[Asked, Answer]):
    asked: Asked
    future: asyncio.Future[Answer]


class Gatherer(Generic[Asked, Answer]):
    """Hands callers to `commit` together and in order, one commit at a time; a lone one at once.

    A caller that is cancelled leaves the others alone; what it asked for may still be done.

    Args:
        commit: what is done with them.
        weight: what a caller adds to its commit.
        most: how much one commit may weigh, if more than one caller shares it.
        commits: notes how many callers shared each commit.
    """

    def __init__(
        self,
        commit: Commit[Asked, Answer],
        *,
        weight: Callable[[Asked], int],
        most: int,
        commits: Histogram,
    ) -> None:
        self._commit = commit
        self._commits = commits
        self._weight = weight
        self._most = most
        self._callers: deque[_Caller[Asked, Answer]] = deque()
        self._serving: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, asked: Asked) -> Answer:
        """Return what became of it, once it is committed."""
        if self._closed:
            raise StoreUnavailable("The database is closed; the server is stopping.")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._callers.append(_Caller(asked, future))
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve(), name="opscore-postgres")
        return await future

    async def close(self) -> None:
        """Do what was asked for and take no more. Idempotent."""
        self._closed = True
        if self._serving is not None:
            await self._serving

    async def _serve(self) -> None:
        try:
            while self._callers:
                await self._answer(self._next())
        finally:
            self._serving = None

    def _next(self) -> list[_Caller[Asked, Answer]]:
        callers = [self._callers.popleft()]
        weight = self._weight(callers[0].asked)
        while self._callers:
            weight += self._weight(self._callers[0].asked)
            if weight > self._most:
                break
            callers.append(self._callers.popleft())
        return callers

    async def _answer(self, callers: list[_Caller[Asked, Answer]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._commit([caller.asked for caller in callers])
            self._commits.observe(len(callers))
        except Exception as error:  # whatever it is, each caller has to hear of it
            answers = [error] * len(callers)
        for caller, answer in zip(callers, answers, strict=True):
            if caller.future.done():  # cancelled
                continue
            if isinstance(answer, Exception):
                caller.future.set_exception(answer)
            else:
                caller.future.set_result(answer)
